"""The heartbeat of a worker, and its watch over the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dispatcher import failpoints, metrics
from dispatcher.engine.clock import StoreClock, monotonic
from dispatcher.engine.outage import Outage
from dispatcher.errors import StoreUnavailable
from dispatcher.store.queue import Heartbeat, Queue

log = logging.getLogger(__name__)

MARGIN_SECONDS = 0.25
"""A worker that could not renew stops sending this long before its lease ends."""
LEAST_PATIENCE = 0.5
"""Seconds a heartbeat waits for its answer, at least."""


class Heart:
    """Renews the lease of a worker and takes over from workers that no longer renew theirs.

    A worker counts as dead when its heartbeat is older than the lease and was seen unchanged for
    half a lease by this clock, while the store answered all the time. After a pause of the store
    every worker looks silent: whoever lives has beaten again within that half lease. `numbered`
    gets the number of changes from every answer.
    """

    def __init__(
        self,
        queue: Queue,
        worker: str,
        lease: float,
        clock: StoreClock,
        numbered: Callable[[int], None],
        outage: Outage,
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._lease = lease
        self._clock = clock
        self._numbered = numbered
        self._outage = outage
        self._until = 0.0
        self._seen: dict[str, tuple[str, float]] = {}

    def alive(self) -> bool:
        """Whether the lease still holds."""
        return monotonic() < self._until - MARGIN_SECONDS

    async def register(self) -> None:
        """The first heartbeat. Raises StoreUnavailable."""
        await self._beat(first=True)

    async def run(self) -> None:
        """Beat until cancelled. Raises WorkerLost."""
        pause = self._pause()
        while True:
            await asyncio.sleep(pause)
            try:
                beat = await self._beat()
                self._outage.answered("heartbeat")
                await self._take_over(beat)
                pause = self._pause()
            except StoreUnavailable as error:
                self._seen.clear()
                self._outage.failed("heartbeat", error)
                pause = min(1.0, self._lease / 10)

    async def _beat(self, *, first: bool = False) -> Heartbeat:
        failpoints.passed("before_heartbeat")
        before = monotonic()
        try:
            async with asyncio.timeout(max(LEAST_PATIENCE, self._lease / 3)):
                beat = await self._queue.heartbeat(self._worker, first=first, lease=self._lease)
        except TimeoutError:
            cell = self._queue.keys.cell if self._queue.keys.several else ""
            where = f" (cell {cell})" if cell else ""
            raise StoreUnavailable(f"store did not answer in time{where}", cell=cell) from None
        after = monotonic()
        failpoints.passed("after_heartbeat")
        self._until = before + self._lease
        self._clock.learn(beat.now_us, before, after)
        self._numbered(beat.control)
        if after - before > self._lease / 6:
            self._seen.clear()
        seen = self._seen
        self._seen = {
            name: old if (old := seen.get(name)) and old[0] == value else (value, after)
            for name, value in beat.beats.items()
            if name != self._worker
        }
        return beat

    async def _take_over(self, beat: Heartbeat) -> None:
        for name, (value, since) in list(self._seen.items()):
            silent = (beat.now_us - float(value)) / 1e6
            if silent <= self._lease or monotonic() - since < self._lease / 2:
                continue
            failpoints.passed("before_reclaim")
            moved = await self._queue.reclaim_dead(name, value, self._lease)
            failpoints.passed("after_reclaim")
            if moved is None:  # it has beaten since, or its own lease is longer
                self._seen[name] = (value, monotonic())
                continue
            del self._seen[name]
            metrics.RECLAIMED.inc(moved)
            log.warning(
                "worker %s is silent for %.1f s: %d messages taken over", name, silent, moved
            )

    def _pause(self) -> float:
        """A third of the lease, or until the next silent worker may be declared dead."""
        now, now_us = monotonic(), self._clock.now_us()
        pause = self._lease / 3
        for value, since in self._seen.values():
            silent = (now_us - float(value)) / 1e6
            if silent > self._lease / 2:
                rest = max(self._lease - silent, self._lease / 2 - (now - since))
                pause = min(pause, max(0.05, rest + 0.05))
        return pause
