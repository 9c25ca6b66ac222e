"""All lanes at one moment: what waits in each, how fast it may go, and when it is done."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dispatcher.engine.waiting import Standing, opens_us, turns_at
from dispatcher.store.inspector import LaneView
from dispatcher.store.limit_views import LimitView
from dispatcher.store.survey import StoreView, Survey

TURN = 200
"""Lanes looked at before the event loop has its turn again: a worker may be the one that looks."""


class Outlook(NamedTuple):
    """What lies ahead of one lane. `rate` is what its limits let pass (messages of one segment per
    second, its share of limits that others wait for, too), None without any; it lets its next
    message pass in `opens` seconds; `drain` is class → seconds until what waits of it has gone."""

    standing: Standing
    rate: float | None
    opens: float
    drain: dict[str, float]


class Overlook(NamedTuple):
    """Every lane by name, every limit, and the store as a whole."""

    lanes: dict[str, Outlook]
    limits: dict[str, LimitView]
    store: StoreView


async def overlook(survey: Survey, providers: Iterable[str], pause: float = 0.0) -> Overlook:
    """Read all there is of these providers and of those the limits speak of; `pause` seconds after
    each page leave the store to others. Raises StoreUnavailable."""
    limits: dict[str, LimitView] = {}
    async for page in survey.limit_pages():
        limits |= page
        await asyncio.sleep(pause)
    known = {*providers, *(name.removeprefix(OWN) for name in limits if name.startswith(OWN))}
    lanes: dict[str, LaneView] = {}
    for provider in sorted(known):
        async for found in survey.lane_pages(provider):
            lanes |= {lane.lane: lane for lane in found}
            await asyncio.sleep(pause)
    store = await survey.store(sorted(known))
    return Overlook(await _outlooks(lanes, limits, store), limits, store)


OWN = "provider:"
"""What the name of a provider's own limit begins with; every provider has one."""


async def _outlooks(
    lanes: Mapping[str, LaneView], limits: Mapping[str, LimitView], store: StoreView
) -> dict[str, Outlook]:
    rates = await _rates(lanes.values(), limits)
    found: dict[str, Outlook] = {}
    for name, lane in lanes.items():
        met = tuple(limits[limit] for limit in lane.limits if limit in limits)
        standing = Standing(lane, met, store.breakers[name.partition("/")[0]], store.now_us)
        rate = rates[name]
        opens = (opens_us(standing) - store.now_us) / 1e6
        drain = turns_at(standing, 1e6 / rate)
        found[name] = Outlook(standing, rate if rate < math.inf else None, opens, drain)
        if len(found) % TURN == 0:
            await asyncio.sleep(0)
    return found


async def _rates(lanes: Iterable[LaneView], limits: Mapping[str, LimitView]) -> dict[str, float]:
    """Lane → messages per second: what each limit leaves it beside others that wait."""
    alone: dict[str, float] = {}
    sharing: dict[str, list[LaneView]] = {}
    rates: dict[str, float] = {}
    for lane in lanes:
        met = [name for name in lane.limits if name in limits and limits[name].interval_us]
        alone[lane.lane] = min((1e6 / limits[name].interval_us for name in met), default=math.inf)
        rates[lane.lane] = alone[lane.lane]
        if lane.waiting:
            for name in met:
                sharing.setdefault(name, []).append(lane)
        if len(rates) % TURN == 0:
            await asyncio.sleep(0)
    for name, members in sharing.items():
        if len(members) > 1:
            level = fair_level(
                1e6 / limits[name].interval_us, [alone[lane.lane] for lane in members]
            )
            for lane in members:
                rates[lane.lane] = min(rates[lane.lane], level)
            await asyncio.sleep(0)
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
