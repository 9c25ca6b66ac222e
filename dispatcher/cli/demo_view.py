"""What the demo shows while it sends: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dispatcher.store.inspector import BatchView, LaneView

WINDOW = 2.0
"""Seconds over which a rate is taken."""
PLAIN_EVERY = 2.0
"""Seconds between two plain lines."""
_EVENTS = ("deferred", "suppressed", "unknown")


class Sample(NamedTuple):
    """What the store said at one moment; `batch` is None until something was accepted."""

    lanes: Sequence[LaneView]
    batch: BatchView | None

    def finished(self) -> bool:
        """Whether nothing accepted is without an outcome."""
        return self.batch is not None and not (
            self.batch.counts["queued"] or self.batch.counts["scheduled"]
        )


class View:
    """Shows samples. `limits` is messages per second by lane, in the order of the table."""

    def __init__(self, console: Console, limits: Mapping[str, int], messages: int) -> None:
        self._console = console
        self._limits = limits
        self._messages = messages
        self._started = time.monotonic()
        self._history: deque[tuple[float, dict[str, int]]] = deque()
        self._said = 0.0
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, sample: Sample) -> None:
        """Take a sample in and show it, plain lines only every two seconds."""
        elapsed = time.monotonic() - self._started
        self._remember(elapsed, sample)
        if self._live is not None:
            self._live.update(self._drawn(elapsed, sample), refresh=True)
        elif elapsed - self._said >= PLAIN_EVERY:
            self._said = elapsed
            self._console.print(self._line(elapsed, sample), soft_wrap=True)

    def _remember(self, elapsed: float, sample: Sample) -> None:
        self._history.append((elapsed, {one.lane: _attempts(one) for one in sample.lanes}))
        while len(self._history) > 2 and elapsed - self._history[1][0] >= WINDOW:
            self._history.popleft()

    def _rate(self, lane: str) -> float:
        (start, before), (end, after) = self._history[0], self._history[-1]
        return (after.get(lane, 0) - before.get(lane, 0)) / (end - start) if end > start else 0.0

    def _drawn(self, elapsed: float, sample: Sample) -> Group:
        table = _table()
        for one in sample.lanes:
            table.add_row(*self._row(one))
        table.add_section()
        table.add_row(*self._total(sample), style="bold")
        return Group(table, Text(self._caption(elapsed, sample), style="dim"))

    def _row(self, lane: LaneView) -> tuple[str, ...]:
        numbers = (lane.sent, self._rate(lane.lane), self._limits[lane.lane], _backlog(lane))
        return lane.lane, *map(_number, (*numbers, lane.retried, lane.dead))

    def _total(self, sample: Sample) -> tuple[str, ...]:
        lanes = sample.lanes
        return (
            "all lanes",
            _number(sum(one.sent for one in lanes)),
            _number(self._whole_rate(sample)),
            _number(sum(self._limits.values())),
            _number(sum(map(_backlog, lanes))),
            _number(sum(one.retried for one in lanes)),
            _number(sum(one.dead for one in lanes)),
        )

    def _whole_rate(self, sample: Sample) -> float:
        return sum(self._rate(one.lane) for one in sample.lanes)

    def _caption(self, elapsed: float, sample: Sample) -> str:
        if sample.batch is None:
            return f"{elapsed:5.1f} s   submitting {self._messages:,} messages"
        known = sample.batch.counts | sample.batch.events
        events = "   ".join(f"{known[name]:,} {name}" for name in _EVENTS)
        return f"{elapsed:5.1f} s   {known['scheduled']:,} scheduled   {events}"

    def _line(self, elapsed: float, sample: Sample) -> str:
        if sample.batch is None:
            return self._caption(elapsed, sample)
        counts, lanes = sample.batch.counts, sample.lanes
        return (
            f"{elapsed:5.1f} s {counts['sent']:>8,} sent {self._whole_rate(sample):>7,.0f}/s"
            f" {sum(map(_backlog, lanes)):>8,} backlog"
            f" {sample.batch.events['retried']:>6,} retried {counts['dead']:>5,} dead"
        )


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("lane", no_wrap=True, min_width=23)
    for name, width in (
        ("sent", 7), ("rate/s", 6), ("limit", 6), ("backlog", 7), ("retried", 7), ("dead", 5),
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    return table


def _attempts(lane: LaneView) -> int:
    return lane.sent + lane.retried + lane.dead


def _backlog(lane: LaneView) -> int:
    return sum(lane.depth.values())


def _number(value: float) -> str:
    return f"{value:,.0f}"
