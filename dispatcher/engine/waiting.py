"""What the messages of a lane wait for, and when their turn comes.

Times are microseconds by the store's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from dispatcher.messages import CLASSES, Lane
from dispatcher.policy.routing import Limits
from dispatcher.store.inspector import BreakerView, Inspector, LaneView
from dispatcher.store.limit_views import LimitView, join_limits, unused_view

FLOOR = 0.05
"""The share of a lane that a class gets however many more urgent messages wait."""


class Standing(NamedTuple):
    """All that decides when messages of a lane go; `limits` are those it meets."""

    lane: LaneView
    limits: tuple[LimitView, ...]
    breaker: BreakerView
    now_us: int


class Overview(NamedTuple):
    """Every limit, by name, and the lanes that each one holds back; `cells` has what each cell has
    of the limits, by the cell's name."""

    limits: dict[str, LimitView]
    waiting: dict[str, list[str]]
    now_us: int
    cells: dict[str, dict[str, LimitView]]


async def overview(inspector: Inspector, limits: Limits, providers: Iterable[str]) -> Overview:
    """All limits of the store and of the configuration, and what waits at these providers. Raises
    StoreUnavailable."""
    names, served = await inspector.limit_names(), tuple(providers)
    cells: dict[str, dict[str, LimitView]] = {}
    waiting: dict[str, list[str]] = {}
    for cell, here in inspector.cells.items():
        views, now_us = await here.limits(names), await here.now_us()
        for limit in limits.definitions(now_us, cell):
            views.setdefault(limit.name, unused_view(limit, now_us))
        lanes = await here.lanes(await here.lane_names(served))
        for name, held_back in waiting_lanes(lanes, views, now_us).items():
            waiting.setdefault(name, []).extend(held_back)
        cells[cell] = views
    joined = join_limits(cells, inspector.retired)
    return Overview(joined, waiting, await inspector.now_us(), cells)


async def standing_of(
    inspector: Inspector, lane: str, limits: Iterable[LimitView] | None = None
) -> Standing:
    """How a lane stands now; `limits` are those it meets where the store may not know it. Raises
    StoreUnavailable."""
    here = inspector.at(lane)
    (view,) = await here.lanes([lane])
    if limits is None:
        limits = (await here.limits(view.limits)).values()
    breaker = await here.breaker(Lane.parse(lane).provider)
    return Standing(view, tuple(limits), breaker, await here.now_us())


def binding(limits: Iterable[LimitView], now_us: int) -> LimitView | None:
    """The limit that lets a message pass last; None where all are free."""
    last = max(limits, key=lambda limit: limit.wake_us, default=None)
    return last if last is not None and last.wake_us > now_us else None


def waiting_lanes(
    lanes: Iterable[LaneView], limits: Mapping[str, LimitView], now_us: int
) -> dict[str, list[str]]:
    """Limit → lanes with messages that it holds back now."""
    held_back: dict[str, list[str]] = {}
    for lane in lanes:
        met = (limits[name] for name in lane.limits if name in limits)
        if lane.waiting and (limit := binding(met, now_us)) is not None:
            held_back.setdefault(limit.name, []).append(lane.lane)
    return held_back


def reason(standing: Standing) -> str | None:
    """What the messages of a lane wait for, in words; None where nothing holds them back."""
    lane, now_us = standing.lane, standing.now_us
    if lane.suspended_us > now_us:
        return f"suspended: {lane.reason or f'until {moment(lane.suspended_us)}'}"
    if standing.breaker.state != "closed":
        return f"provider {Lane.parse(lane.lane).provider} is down (breaker open)"
    limit = binding(standing.limits, now_us)
    if lane.paused_us > max(now_us, limit.wake_us if limit is not None else 0):
        return f"lane {lane.lane}: paused by the provider until {moment(lane.paused_us)}"
    if limit is None:
        return None
    quota = limit.spent
    if quota is not None and quota.ends_us == limit.wake_us:
        return f"quota {limit.name} ({quota.most}/{quota.period}) until {moment(quota.ends_us)}"
    return f"limit {limit.name}"


def opens_us(standing: Standing) -> int:
    """When the lane lets its next message pass."""
    lane, breaker = standing.lane, standing.breaker
    opens = max(standing.now_us, lane.suspended_us, lane.paused_us)
    if breaker.state != "closed":
        opens = max(opens, breaker.until_us)
    return max([opens, *(limit.wake_us for limit in standing.limits)])


def turns(standing: Standing, waiting: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Class → about how many seconds until a new message of it would go, the whole lane in front of
    it. `waiting` names the lanes that wait for each limit; they share it equally."""
    spacing = 0.0
    for limit in standing.limits:
        sharing = {standing.lane.lane, *waiting.get(limit.name, ())}
        spacing = max(spacing, limit.interval_us * len(sharing))
    return turns_at(standing, spacing)


def turns_at(standing: Standing, spacing: float) -> dict[str, float]:
    """As `turns`, of a lane that lets a message pass every `spacing` microseconds."""
    opens = opens_us(standing) - standing.now_us
    found, ahead = {}, 0
    for class_ in CLASSES:
        own = standing.lane.depth.get(class_, 0)
        ahead += own
        slots = ahead if class_ == CLASSES[0] else min(ahead, own / FLOOR)
        found[class_] = (opens + slots * spacing) / 1e6
    return found


def moment(time_us: int) -> str:
    """A time as users read it."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="seconds")
