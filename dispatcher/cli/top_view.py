"""What `dispatcher top` tells, as plain values: for the screen and for `--json` alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from dispatcher.cli.figures import rounded
from dispatcher.engine.overlook import Outlook, Overlook
from dispatcher.engine.trend import Trend
from dispatcher.engine.waiting import binding, moment, waiting_lanes
from dispatcher.store.inspector import BreakerView
from dispatcher.store.limit_views import LimitView

WORKER = re.compile(r"(?P<host>.+?)\.\d+(\.\d+\.[0-9a-f]{16})?\.[0-9a-f]{8}(-\d+)?")
"""A worker's name: its host, process, perhaps its place in a crew, a random part, and how often it
was declared dead."""
ORPHANED = "orphaned"
FOREVER_SECONDS = 1000 * 86_400.0
"""What is further away is told as never."""


class LaneLine(msgspec.Struct, frozen=True):
    """One lane. Rates are messages per second; `allowed` is what the slowest of its limits lets
    pass, null without any. `done_seconds` until all that waits has gone, null where nothing tells.
    `state` is "" or why it stands still, `limit` the one it waits for, `codes` why messages fail,
    per second."""

    lane: str
    rate: float
    allowed: float | None
    waiting: dict[str, int]
    done_seconds: float | None
    oldest_seconds: float
    failed: float
    codes: dict[str, float]
    state: str
    reason: str
    limit: str

    @property
    def backlog(self) -> int:
        """Messages of all classes that wait."""
        return sum(self.waiting.values())

    @property
    def used(self) -> float | None:
        """The share of the allowed rate that is used, None without one. A rate of seconds ago may
        be above a limit that was slowed since."""
        return min(1.0, self.rate / self.allowed) if self.allowed else None


class LimitLine(msgspec.Struct, frozen=True):
    """A limit that holds messages back now, and how many lanes; `rate` is null without one. `why`
    is what it does beyond its rate: a quota used up, a pause the provider asked for, or ""."""

    name: str
    why: str
    rate: float | None
    lanes: int
    waiting: int


class View(msgspec.Struct, frozen=True):
    """Everything at one moment. Rates are per second, memory in bytes (a limit of 0: none)."""

    at: str
    rate: float
    sent: int
    waiting: int
    unfinished: int
    dead: int
    drain_seconds: float | None
    workers: dict[str, int]
    memory: int
    memory_limit: int
    breakers: dict[str, str]
    limits: list[LimitLine]
    lanes: list[LaneLine]


def view_of(found: Overlook, trend: Trend, served: Collection[str]) -> View:
    """`served` are the providers of the configuration."""
    store = found.store
    lanes = [_lane(name, item, trend, served) for name, item in found.lanes.items()]
    done = [lane.done_seconds for lane in lanes if lane.backlog and lane.state != ORPHANED]
    return View(
        datetime.fromtimestamp(store.now_us / 1e6, UTC).isoformat(timespec="seconds"),
        rounded(trend.sent()),
        store.sent,
        sum(lane.backlog for lane in lanes),
        store.unfinished,
        store.letters,
        None if None in done else max(filter(None, done), default=0.0),
        _hosts(store.workers),
        store.memory,
        store.memory_most,
        {name: breaker.state for name, breaker in store.breakers.items() if _is_open(breaker)},
        _limits(found),
        lanes,
    )


def with_codes(view: View, codes: Mapping[str, dict[str, float]]) -> View:
    """The view with why messages of some lanes fail: lane → code → messages per second."""
    lanes = [
        msgspec.structs.replace(line, codes=_each(codes[line.lane])) if line.lane in codes else line
        for line in view.lanes
    ]
    return msgspec.structs.replace(view, lanes=lanes)


def _each(rates: Mapping[str, float]) -> dict[str, float]:
    return {code: rounded(rate) for code, rate in rates.items()}


def _is_open(breaker: BreakerView) -> bool:
    return breaker.state != "closed"


def _lane(name: str, item: Outlook, trend: Trend, served: Collection[str]) -> LaneLine:
    lane, now_us = item.standing.lane, item.standing.now_us
    pace = trend.pace(name)
    oldest_us = min(lane.oldest_us.values(), default=now_us)
    state, reason = _state(name, item, served)
    limit = binding(item.standing.limits, now_us) if lane.waiting else None
    return LaneLine(
        name,
        rounded(pace.sent),
        None if item.most is None else rounded(item.most),
        lane.depth,
        _done(item, pace.sent),
        round(max(0.0, (now_us - oldest_us) / 1e6), 3),
        rounded(pace.failed),
        {},
        state,
        reason,
        limit.name if limit is not None else "",
    )


def _done(item: Outlook, rate: float) -> float | None:
    """A lane without a rate goes on as it does now."""
    lane = item.standing.lane
    seconds = max((item.drain[name] for name, n in lane.depth.items() if n), default=0.0)
    if item.rate is None and lane.waiting:
        if not rate:
            return None
        seconds += lane.waiting / rate
    return rounded(seconds) if seconds < FOREVER_SECONDS else None


def _state(name: str, item: Outlook, served: Collection[str]) -> tuple[str, str]:
    """What lets nothing of a lane pass, in one word and in more."""
    lane, breaker, now_us = item.standing.lane, item.standing.breaker, item.standing.now_us
    provider = name.partition("/")[0]
    if provider not in served:
        return ORPHANED, f"no [providers.{provider}] in the configuration"
    if lane.suspended_us > now_us:
        return (
            "suspended",
            f"{_until(lane.suspended_us, now_us)}: {lane.reason or 'no reason given'}",
        )
    if _is_open(breaker):
        return "breaker", f"{provider} is {breaker.state}, {_until(breaker.until_us, now_us)}"
    if lane.paused_us > now_us:
        return "paused", f"by the provider, {_until(lane.paused_us, now_us)}"
    return "", ""


def _until(time_us: int, now_us: int) -> str:
    if time_us - now_us > FOREVER_SECONDS * 1e6:
        return "until resumed"
    return f"until {moment(time_us)[11:19]}Z" if time_us > now_us else "about to be tried"


def _rate(limit: LimitView) -> float | None:
    return rounded(1e6 / limit.interval_us) if limit.interval_us else None


def _why(limit: LimitView) -> str:
    if limit.spent is not None:
        return f"{limit.spent.period}'s quota used up"
    return "paused" if limit.paused_us else ""


def _limits(found: Overlook) -> list[LimitLine]:
    """Those that hold most messages back come first."""
    lanes = [item.standing.lane for item in found.lanes.values()]
    depth = {lane.lane: lane.waiting for lane in lanes}
    held = waiting_lanes(lanes, found.limits, found.store.now_us)
    lines = [
        LimitLine(
            name,
            _why(found.limits[name]),
            _rate(found.limits[name]),
            len(names),
            sum(depth[lane] for lane in names),
        )
        for name, names in held.items()
    ]
    return sorted(lines, key=lambda line: (-line.waiting, line.name))


def _hosts(workers: Collection[str]) -> dict[str, int]:
    """Host → its workers. One that was declared dead in some of its cells has two names."""
    living = {name.rpartition("-")[0] or name for name in workers}
    matches = (WORKER.fullmatch(name) for name in sorted(living))
    return dict(Counter(match["host"] if match else "?" for match in matches))


Order: TypeAlias = Callable[[LaneLine], Any]

ORDERS: dict[str, Order] = {
    "rate": lambda line: -line.rate,
    "backlog": lambda line: -line.backlog,
    "drain": lambda line: -(FOREVER_SECONDS if line.done_seconds is None else line.done_seconds),
    "errors": lambda line: -line.failed,
    "name": lambda line: 0,
}
"""What lanes may be sorted by; equal ones by name."""


def ordered(lanes: Collection[LaneLine], order: str) -> list[LaneLine]:
    """Lanes in one of `ORDERS`."""
    key = ORDERS[order]
    return sorted(lanes, key=lambda line: (key(line), line.lane))
