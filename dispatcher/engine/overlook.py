"""All lanes at one moment: what waits in each, how fast it may go, and when it is done."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from dispatcher.engine.waiting import Standing, opens_us, turns_at
from dispatcher.store.inspector import LaneView
from dispatcher.store.limit_views import LimitView
from dispatcher.store.survey import StoreView, Survey

T = TypeVar("T")
TURN = 100
"""Lanes looked at before the event loop has its turn again: a worker may be the one that looks."""


class Outlook(NamedTuple):
    """What lies ahead of one lane. Of its limits the slowest lets `most` messages of one segment
    pass per second, and `rate` is its share where others wait for them, too; None without a rate.
    It lets its next message pass in `opens` seconds; `drain` is class → seconds until what waits of
    it has gone."""

    standing: Standing
    most: float | None
    rate: float | None
    opens: float
    drain: dict[str, float]


class Overlook(NamedTuple):
    """Every lane by name, every limit, and the store as a whole."""

    lanes: dict[str, Outlook]
    limits: dict[str, LimitView]
    store: StoreView


async def overlook(survey: Survey, providers: Iterable[str], pause: float = 0.0) -> Overlook:
    """Read all there is of these providers and of those that ever had messages; `pause` seconds
    after each page leave the store to others. Raises StoreUnavailable."""
    limits: dict[str, LimitView] = {}
    async for page in survey.limit_pages():
        limits |= page
        await asyncio.sleep(pause)
    known = {*providers, *await survey.providers()}
    lanes: dict[str, LaneView] = {}
    for provider in sorted(known):
        async for found in survey.lane_pages(provider):
            lanes |= {lane.lane: lane for lane in found}
            await asyncio.sleep(pause)
    store = await survey.store(sorted(known))
    return Overlook(await _outlooks(lanes, limits, store), limits, store)


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Items of something long; now and then the event loop has its turn."""
    for at, item in enumerate(items, 1):
        yield item
        if at % TURN == 0:
            await asyncio.sleep(0)


async def _outlooks(
    lanes: Mapping[str, LaneView], limits: Mapping[str, LimitView], store: StoreView
) -> dict[str, Outlook]:
    alone = {lane.lane: _slowest(lane, limits) async for lane in in_turns(lanes.values())}
    rates = await _shares(lanes.values(), limits, alone)
    found: dict[str, Outlook] = {}
    async for name, lane in in_turns(lanes.items()):
        met = tuple(limits[limit] for limit in lane.limits if limit in limits)
        standing = Standing(lane, met, store.breakers[name.partition("/")[0]], store.now_us)
        most, rate = alone[name], rates[name]
        opens = (opens_us(standing) - store.now_us) / 1e6
        drain = turns_at(standing, 1e6 / rate)
        found[name] = Outlook(standing, _finite(most), _finite(rate), opens, drain)
    return found


def _finite(rate: float) -> float | None:
    return rate if rate < math.inf else None


def _slowest(lane: LaneView, limits: Mapping[str, LimitView]) -> float:
    longest = max((limits[name].interval_us for name in lane.limits if name in limits), default=0.0)
    return 1e6 / longest if longest else math.inf


async def _shares(
    lanes: Iterable[LaneView], limits: Mapping[str, LimitView], alone: Mapping[str, float]
) -> dict[str, float]:
    """Lane → messages per second: what each limit leaves it beside others that wait. `alone` is
    what they would have without the others."""
    sharing: dict[str, list[str]] = {}
    async for lane in in_turns(lanes):
        for name in lane.limits if lane.waiting else ():
            if name in limits and limits[name].interval_us:
                sharing.setdefault(name, []).append(lane.lane)
    rates = dict(alone)
    async for name, members in in_turns(sharing.items()):
        if len(members) > 1:
            capacity = 1e6 / limits[name].interval_us
            level = fair_level(capacity, [alone[lane] for lane in members])
            async for lane_name in in_turns(members):
                rates[lane_name] = min(rates[lane_name], level)
    return rates


def fair_level(capacity: float, wants: Sequence[float]) -> float:
    """The most that each gets of a capacity where nobody gets more than wanted: what some leave,
    the others share."""
    rest = capacity
    for at, want in enumerate(sorted(wants)):
        share = rest / (len(wants) - at)
        if want > share:
            return share
        rest -= want
    return math.inf
