"""The gauges of the whole store, shown by one process at a time: the one that holds their lease."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress

from dispatcher.engine.clock import monotonic
from dispatcher.engine.overlook import Outlook, Overlook, in_turns, overlook
from dispatcher.errors import DispatcherError
from dispatcher.messages import Lane
from dispatcher.metrics import BREAKER_STATES, CARRIERS, WHOLE_STORE, Series, StoreGauges
from dispatcher.store.joining import open_survey
from dispatcher.store.lease import Lease
from dispatcher.store.limit_views import LimitView
from dispatcher.store.opening import Store

log = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
LEASE_SECONDS = 15.0
PAUSE_SECONDS = 0.01
"""Between two pages of lanes: ten thousand lanes then take the store a tenth of its time for half a
second."""
READING_MOST = 5
"""Reading takes at most one in so many seconds: of very many lanes it is done less often."""
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
        self._survey = open_survey(store.client, store.keys)
        self._providers = frozenset(providers)
        self._refresh = refresh
        self._seconds = lease
        self._shows = False
        self._next = 0.0
        self._series: Readings = {}
        self._troubled = False
        self._seen: set[tuple[str, ...]] = set()

    async def run(self) -> None:
        """Until cancelled; then another process may show them at once."""
        task = asyncio.current_task()
        assert task is not None
        try:
            # A write of the client may swallow a cancellation (asyncio.wait_for before 3.12).
            while not task.cancelling():
                await self._try()
                if not task.cancelling():
                    await asyncio.sleep(self._refresh)
        finally:
            await self._leave()

    async def _try(self) -> None:
        """Whatever keeps the gauges from being read must keep nothing else from its work."""
        try:
            await self._turn()
        except Exception as error:
            if not self._troubled:
                unexpected = not isinstance(error, DispatcherError)
                log.warning("gauges of the store are not shown: %s", error, exc_info=unexpected)
            self._troubled = True
        else:
            self._troubled = False

    async def _turn(self) -> None:
        before = monotonic()
        holds = await self._lease.hold(self._seconds)
        if holds and before >= self._next:
            self._series = await self._read()
            now = monotonic()
            self._next = now + max(self._refresh, (now - before) * (READING_MOST - 1))
            before, holds = now, await self._lease.hold(self._seconds)
        if holds:
            self._shown.show(self._series, before + self._seconds)
            self._shows = True
        else:
            self._clear()

    def _clear(self) -> None:
        """Others in this process may show theirs."""
        self._next = 0.0
        if self._shows:
            self._shown.clear()
            self._shows = False

    async def _leave(self) -> None:
        self._clear()
        with suppress(DispatcherError, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._lease.give_up()

    async def _read(self) -> Readings:
        found = await overlook(self._survey, self._providers, PAUSE_SECONDS)
        series = await readings(found, self._providers)
        self._seen |= series["dispatcher_queue_depth"].keys()
        for name in ("queue_depth", "queue_oldest_seconds", "drain_seconds"):
            shown = series[f"dispatcher_{name}"]
            for key in self._seen:  # what is empty now is told, too
                shown.setdefault(key, 0.0)
        return series


async def readings(found: Overlook, providers: Collection[str]) -> Readings:
    """The values of all gauges; `providers` are those that somebody serves."""
    store = found.store
    alone = {
        "unfinished_messages": store.unfinished,
        "dead_letters": store.letters,
        "leaving_entries": store.leaving,
        "workers": len(store.workers),
        "store_memory_bytes": store.memory,
        "store_memory_limit_bytes": store.memory_most,
    }
    breakers = store.breakers.items()
    states: Series = {(name,): float(BREAKER_STATES[breaker.state]) for name, breaker in breakers}
    return {
        **{f"dispatcher_{name}": {(): float(value)} for name, value in alone.items()},
        "dispatcher_breaker_state": states,
        **await _of_lanes(found),
        **await _of_totals(found, providers),
        **await _of_limits(found.limits.values()),
    }


def drainable(lane: Outlook) -> float:
    """Messages that may leave a lane within a minute, were there workers enough."""
    rest = max(0.0, DRAINABLE_SECONDS - lane.opens)
    waiting = lane.standing.lane.waiting
    if lane.rate is None:
        return float(waiting) if rest else 0.0
    return min(float(waiting), lane.rate * rest)


async def _of_lanes(found: Overlook) -> Readings:
    depth: Series = defaultdict(float)
    oldest: Series = defaultdict(float)
    drain: Series = defaultdict(float)
    async for outlook in in_turns(found.lanes.values()):
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


async def _of_totals(found: Overlook, providers: Collection[str]) -> Readings:
    suspended: Series = {(name,): 0.0 for name in found.store.breakers}
    orphaned = leaving = 0.0
    async for name, outlook in in_turns(found.lanes.items()):
        provider, lane = name.partition("/")[0], outlook.standing.lane
        if provider in providers:
            leaving += drainable(outlook)
        else:
            orphaned += lane.waiting
        if lane.suspended_us > found.store.now_us:
            suspended[provider,] += 1
    return {
        "dispatcher_lanes_suspended": suspended,
        "dispatcher_orphaned_messages": {(): orphaned},
        "dispatcher_drainable_messages": {(): leaving},
    }


async def _of_limits(limits: Iterable[LimitView]) -> Readings:
    """The values of a limit with `each` are told as one: their number has no bound."""
    rate: Series = defaultdict(float)
    used: Series = defaultdict(float)
    paused: Series = defaultdict(float)
    async for limit in in_turns(limits):
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
