"""The gauges of the whole store, shown by one process at a time: the one that holds their lease."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress

from dispatcher.engine.clock import monotonic
from dispatcher.engine.overlook import Outlook, Overlook, overlook
from dispatcher.errors import DispatcherError
from dispatcher.messages import Lane
from dispatcher.metrics import BREAKER_STATES, CARRIERS, WHOLE_STORE, Series, StoreGauges
from dispatcher.store.lease import Lease
from dispatcher.store.limit_views import LimitView
from dispatcher.store.opening import Store
from dispatcher.store.survey import Survey

log = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
LEASE_SECONDS = 15.0
PAUSE_SECONDS = 0.01
"""Between two pages of lanes: ten thousand lanes then take the store a tenth of its time for half a
second."""
LEAVE_SECONDS = 1.0
DRAINABLE_SECONDS = 60.0

Readings = dict[str, Series]


class Gauges:
    """Reads the store and shows it while no other process does."""

    def __init__(
        self,
        store: Store,
        providers: Collection[str],
        refresh: float = REFRESH_SECONDS,
        lease: float = LEASE_SECONDS,
        shown: StoreGauges = WHOLE_STORE,
    ) -> None:
        self._shown = shown
        self._lease = Lease(store.client, store.keys, "gauges")
        self._survey = Survey(store.client, store.keys)
        self._providers = frozenset(providers)
        self._refresh = refresh
        self._seconds = lease
        self._shows = False
        self._troubled = False
        self._seen: set[tuple[str, ...]] = set()

    async def run(self) -> None:
        """Until cancelled; then another process may show them at once."""
        try:
            while True:
                await self._try()
                await asyncio.sleep(self._refresh)
        finally:
            await self._leave()

    async def _try(self) -> None:
        """Whatever keeps the gauges from being read must keep nothing else from its work."""
        try:
            await self._turn()
        except DispatcherError as error:
            if not self._troubled:
                log.warning("gauges of the store are not shown: %s", error)
            self._troubled = True
        else:
            self._troubled = False

    async def _turn(self) -> None:
        if not await self._holds():
            return self._clear()
        found = await overlook(self._survey, self._providers, PAUSE_SECONDS)
        series = self._readings(found)
        before = monotonic()
        if await self._holds():
            self._shown.show(series, before + self._seconds)
            self._shows = True
        else:
            self._clear()

    async def _holds(self) -> bool:
        return await self._lease.hold(self._seconds)

    def _clear(self) -> None:
        """Others in this process may show theirs."""
        if self._shows:
            self._shown.clear()
            self._shows = False

    async def _leave(self) -> None:
        self._clear()
        with suppress(DispatcherError, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._lease.give_up()

    def _readings(self, found: Overlook) -> Readings:
        series = readings(found, self._providers)
        self._seen |= series["dispatcher_queue_depth"].keys()
        for name in ("queue_depth", "queue_oldest_seconds", "drain_seconds"):
            shown = series[f"dispatcher_{name}"]
            for key in self._seen:  # what is empty now is told, too
                shown.setdefault(key, 0.0)
        return series


def readings(found: Overlook, providers: Collection[str]) -> Readings:
    """The values of all gauges; `providers` are those that somebody serves."""
    store = found.store
    lanes = found.lanes.values()
    orphaned = sum(
        lane.standing.lane.waiting
        for name, lane in found.lanes.items()
        if _provider(name) not in providers
    )
    alone = {
        "orphaned_messages": orphaned,
        "drainable_messages": sum(map(drainable, lanes)),
        "unfinished_messages": store.unfinished,
        "dead_letters": store.letters,
        "workers": len(store.workers),
        "store_memory_bytes": store.memory,
        "store_memory_limit_bytes": store.memory_most,
    }
    return {
        **{f"dispatcher_{name}": {(): float(value)} for name, value in alone.items()},
        **_of_lanes(lanes),
        **_of_limits(found.limits.values()),
        **_of_providers(found),
    }


def drainable(lane: Outlook) -> float:
    """Messages that may leave a lane within a minute, were there workers enough."""
    rest = max(0.0, DRAINABLE_SECONDS - lane.opens)
    waiting = lane.standing.lane.waiting
    if lane.rate is None:
        return float(waiting) if rest else 0.0
    return min(float(waiting), lane.rate * rest)


def _of_lanes(lanes: Iterable[Outlook]) -> Readings:
    depth: Series = defaultdict(float)
    oldest: Series = defaultdict(float)
    drain: Series = defaultdict(float)
    for outlook in lanes:
        lane, now_us = outlook.standing.lane, outlook.standing.now_us
        provider, _, carrier = Lane.parse(lane.lane)
        for class_, waiting in lane.depth.items():
            if waiting:
                key = (provider, CARRIERS.of(carrier), class_)
                depth[key] += waiting
                drain[key] = max(drain[key], outlook.drain[class_])
                age = (now_us - lane.oldest_us.get(class_, now_us)) / 1e6
                oldest[key] = max(oldest[key], age)
    return {
        "dispatcher_queue_depth": depth,
        "dispatcher_queue_oldest_seconds": oldest,
        "dispatcher_drain_seconds": drain,
    }


def _of_limits(limits: Iterable[LimitView]) -> Readings:
    """The values of a limit with `each` are told as one: their number has no bound."""
    rate: Series = defaultdict(float)
    used: Series = defaultdict(float)
    paused: Series = defaultdict(float)
    for limit in limits:
        key = (limit.name.partition("/")[0],)
        paused[key] = max(paused[key], limit.paused_us / 1e6)
        if limit.interval_us:
            rate[key] += 1e6 / limit.interval_us
        shares = [quota.used / quota.most for quota in limit.quotas if quota.most]
        if limit.used is not None:
            shares.append(limit.used)
        if shares:
            used[key] = max(used[key], *shares)
    return {
        "dispatcher_limit_rate": rate,
        "dispatcher_limit_used_ratio": used,
        "dispatcher_limit_paused_seconds": paused,
    }


def _of_providers(found: Overlook) -> Readings:
    suspended: Series = {(name,): 0.0 for name in found.store.breakers}
    for name, outlook in found.lanes.items():
        if outlook.standing.lane.suspended_us > found.store.now_us:
            suspended[_provider(name),] += 1
    breakers = found.store.breakers.items()
    states: Series = {(name,): float(BREAKER_STATES[breaker.state]) for name, breaker in breakers}
    return {"dispatcher_breaker_state": states, "dispatcher_lanes_suspended": suspended}


def _provider(lane: str) -> str:
    return lane.partition("/")[0]
