"""What the demo shows while it sends: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dispatcher.cli.demo_watch import Sample
from dispatcher.store.inspector import BatchView, LaneView

WINDOW = 2.0
"""Seconds over which a rate is taken."""
PLAIN_EVERY = 1.0
"""Seconds between two plain lines."""
FRAME_LINES = 10
"""Lines of the screen that are not lanes: the head of the table, its totals and the caption."""
_EVENTS = ("scheduled", "deferred", "suppressed", "unknown")


class View:
    """Shows samples. `limits` is messages per second by lane (None: no limit of its own), in the
    order of the table; `sizes` is messages per channel; `codes` is how many will be posted."""

    def __init__(
        self,
        console: Console,
        limits: Mapping[str, int | None],
        sizes: Mapping[str, int],
        codes: int,
    ) -> None:
        self._console = console
        self._limits = limits
        self._sizes = sizes
        self._codes = codes
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
        """Take a sample in and show it, plain lines only every second."""
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
        most = max(1, self._console.height - FRAME_LINES)
        for one in sample.lanes[:most]:
            table.add_row(one.lane, *self._figures([one]))
        if hidden := sample.lanes[most:]:
            table.add_row(f"{len(hidden)} more lanes", *self._figures(hidden))
        table.add_section()
        for channel in self._sizes:
            lanes = [one for one in sample.lanes if _channel(one) == channel]
            table.add_row(f"all {channel}", *self._figures(lanes), style="bold")
        return Group(table, Text("\n".join(self._captions(elapsed, sample)), style="dim"))

    def _figures(self, lanes: Sequence[LaneView]) -> tuple[str, ...]:
        """The sums of some lanes; they have a limit when each of them has."""
        limits = [limit for one in lanes if (limit := self._limits[one.lane]) is not None]
        return (
            _number(sum(one.sent for one in lanes)),
            _number(self._rates(lanes)),
            _number(sum(limits)) if len(limits) == len(lanes) else "–",
            _number(sum(map(_backlog, lanes))),
            _number(sum(one.retried for one in lanes)),
            _number(sum(one.dead for one in lanes)),
        )

    def _rates(self, lanes: Sequence[LaneView]) -> float:
        return sum(self._rate(one.lane) for one in lanes)

    def _captions(self, elapsed: float, sample: Sample) -> list[str]:
        codes = f"{sample.posted:,} of {self._codes:,} codes posted, {sample.ended:,} at their end"
        lines = [f"{elapsed:5.1f} s   {codes}"]
        for channel, size in self._sizes.items():
            view = sample.campaigns.get(channel)
            said = _events(view) if view else f"submitting {size:,} messages"
            lines.append(f"{channel:>7}   {said}")
        return lines

    def _line(self, elapsed: float, sample: Sample) -> str:
        lanes, campaigns = sample.lanes, sample.campaigns.values()
        if not campaigns:
            return f"{elapsed:5.1f} s   submitting {sum(self._sizes.values()):,} messages"
        sent = sum(one.counts["sent"] for one in campaigns)
        retried = sum(one.events["retried"] for one in campaigns)
        return (
            f"{elapsed:5.1f} s {sent:>8,} sent {self._rates(lanes):>7,.0f}/s"
            f" {sum(map(_backlog, lanes)):>8,} backlog {retried:>6,} retried"
            f" {sample.posted:>5,} codes posted"
        )


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("lane", no_wrap=True, min_width=24)
    for name, width in (
        ("sent", 6), ("rate/s", 6), ("limit", 5), ("backlog", 7), ("retried", 7), ("dead", 4),
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    return table


def _attempts(lane: LaneView) -> int:
    return lane.sent + lane.retried + lane.dead


def _channel(lane: LaneView) -> str:
    return lane.lane.split("/")[1]


def _events(view: BatchView) -> str:
    known = view.counts | view.events
    return "   ".join(f"{known[name]:,} {name}" for name in _EVENTS)


def _backlog(lane: LaneView) -> int:
    return sum(lane.depth.values())


def _number(value: float) -> str:
    return f"{value:,.0f}"
