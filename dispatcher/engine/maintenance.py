"""The roles beside the pumps: the heartbeat with its watch over other workers, the bell, and what
other workers and operators have changed."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing

from dispatcher import failpoints, metrics
from dispatcher.engine.clock import StoreClock, monotonic
from dispatcher.engine.pump import Pump
from dispatcher.errors import StoreUnavailable
from dispatcher.store.bell import Bell
from dispatcher.store.control import Announcement, Control
from dispatcher.store.queue import Heartbeat, Queue

log = logging.getLogger(__name__)

LAG_SECONDS = 1.0
SWEEP_SECONDS = 60.0
MARGIN_SECONDS = 0.25
"""A worker that could not renew stops sending this long before its lease ends."""
OVERDUE_SECONDS = 0.1
"""An announcement that is not here so long after its number is lost."""


class Heart:
    """Renews the lease of a worker and takes over from workers that no longer renew theirs.

    A worker counts as dead when its heartbeat is older than the lease and was seen unchanged for
    half a lease by this clock, while the store answered all the time. `numbered` gets the number of
    changes from every answer.
    """

    def __init__(
        self,
        queue: Queue,
        worker: str,
        lease: float,
        clock: StoreClock,
        numbered: Callable[[int], None],
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._lease = lease
        self._clock = clock
        self._numbered = numbered
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
        while True:
            await asyncio.sleep(self._pause())
            try:
                beat = await self._beat()
                await self._take_over(beat)
            except StoreUnavailable as error:
                self._seen.clear()
                log.warning("heartbeat: %s", error)
                await asyncio.sleep(min(1.0, self._lease / 10))

    async def _beat(self, *, first: bool = False) -> Heartbeat:
        failpoints.passed("before_heartbeat")
        before = monotonic()
        beat = await self._queue.heartbeat(self._worker, first=first)
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
            if silent > self._lease and monotonic() - since >= self._lease / 2:
                failpoints.passed("before_reclaim")
                moved = await self._queue.reclaim_dead(name, value, self._lease)
                failpoints.passed("after_reclaim")
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


class Changes:
    """Has the pumps look anew at what is announced. Announcements may get lost: when the store
    counts more changes than were heard of, the pumps look anew at everything."""

    def __init__(self, control: Control, worker: str, pumps: Mapping[str, Pump]) -> None:
        self._control = control
        self._worker = worker
        self._pumps = pumps
        self._heard: int | None = None
        self._latest = 0
        self._overdue: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Listen until cancelled."""
        pause = 0.05
        while True:
            try:
                number = await self._control.number()
                async with aclosing(self._control.announcements()) as announcements:
                    async for announcement in announcements:
                        pause = 0.05
                        if announcement is None:
                            self._begin(number)
                        else:
                            self._hear(announcement)
            except StoreUnavailable as error:
                log.warning("announcements: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    def numbered(self, number: int) -> None:
        """The store has counted so many changes."""
        self._latest = number
        if self._heard is None or number == self._heard:
            return
        if number < self._heard:  # an answer from before the last change, or an emptied store
            self._heard = number
        elif self._overdue is None:
            loop = asyncio.get_running_loop()
            self._overdue = loop.call_later(OVERDUE_SECONDS, self._catch_up)

    def close(self) -> None:
        """Forget what is overdue."""
        if self._overdue is not None:
            self._overdue.cancel()

    def _begin(self, number: int) -> None:
        """Nothing from this number on is missed."""
        missed = self._heard is not None and self._heard != number
        self._heard = number
        if missed:
            self._tell("*")

    def _hear(self, announcement: Announcement) -> None:
        self._heard = (self._heard or 0) + 1
        if announcement.origin != self._worker:  # its own changes a worker has acted on before
            self._tell(announcement.what)

    def _catch_up(self) -> None:
        self._overdue = None
        if self._heard is not None and self._latest > self._heard:
            self._heard = self._latest
            self._tell("*")

    def _tell(self, what: str) -> None:
        for pump in self._pumps.values():
            pump.control(what)


async def sweep(queue: Queue, dead_seconds: float) -> None:
    """Forget what has been kept long enough, until cancelled. Statuses leave by themselves."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS * (0.5 + random.random()))
        try:
            forgotten = 1
            while forgotten:
                forgotten = await queue.sweep(dead_seconds)
        except StoreUnavailable as error:
            log.warning("sweep: %s", error)


async def watch_loop() -> None:
    """Measure how late the event loop is, until cancelled."""
    while True:
        before = monotonic()
        await asyncio.sleep(LAG_SECONDS)
        metrics.LOOP_LAG.set(max(0.0, monotonic() - before - LAG_SECONDS))


async def listen(bell: Bell, pumps: Mapping[str, Pump]) -> None:
    """Wake the pump whose bell rings, until cancelled."""
    pause = 0.05
    while True:
        try:
            provider = await bell.rung()
            pause = 0.05
        except StoreUnavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
            continue
        if provider is not None:
            pumps[provider].ring()
