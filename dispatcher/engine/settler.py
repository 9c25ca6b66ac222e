"""Writes outcomes to the store, many entries in one call."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from dispatcher import failpoints, metrics
from dispatcher.engine.clock import monotonic
from dispatcher.engine.entry import HeldEntry
from dispatcher.engine.meters import count_settled
from dispatcher.engine.outage import Outage
from dispatcher.errors import StoreUnavailable
from dispatcher.settings import Config
from dispatcher.store.queue import Queue, Settlement

log = logging.getLogger(__name__)

COALESCE_SECONDS = 0.05
"""How long outcomes are collected before they are written."""
LONGER_SECONDS = 0.1
"""A pause that becomes longer by less is no reason for a call of its own."""
CALL_OUTCOMES = 4000
"""Outcomes in one call, about; it bounds how long the store is busy with it."""
CALL_BYTES = 16 << 20
"""Bytes of content in one call, about: messages that go back take their content along."""


class Settler:
    """One call at a time. A call without an answer is made again, unchanged, until there is one:
    its number makes the repetition harmless. `answered_number` is that of the last one that was
    answered, the first is 1. `left` is called when messages wait to be carried to
    another cell."""

    def __init__(
        self,
        queue: Queue,
        worker: str,
        config: Config,
        outage: Outage,
        left: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._config = config
        self._outage = outage
        self._left = left
        self._noted: deque[HeldEntry] = deque()
        self._throttled: dict[str, int] = {}
        self._pauses: dict[str, float] = {}
        self._breakers: dict[str, list[int]] = {}
        self._number = 0
        self.answered_number = 0
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._writing = 0

    def note(self, entry: HeldEntry) -> None:
        """An entry has something new to write."""
        if not entry.noted:
            entry.noted = True
            self._noted.append(entry)
        self._idle.clear()
        self._wake.set()

    def throttled(self, what: str, seconds: float) -> None:
        """A provider asked for less: pause and slow a limit, or pause `lane:<lane>`. Other workers
        learn of a new pause at once; one that becomes a little longer is written with what comes
        next."""
        self._throttled[what] = max(self._throttled.get(what, 0), int(seconds * 1e6))
        now = monotonic()
        if now + seconds > self._pauses.get(what, 0.0) + LONGER_SECONDS:
            self._pauses = {name: ends for name, ends in self._pauses.items() if ends > now}
            self._pauses[what] = now + seconds
            self._hurry.set()
            self._wake.set()

    def answered(self, provider: str, *, failed: bool, down: bool) -> None:
        """Count an answer for the breaker of its provider."""
        counts = self._breakers.setdefault(provider, [0, 0, 0])
        counts[1 if failed else 0] += 1
        counts[2] |= down

    def backlog(self) -> int:
        """Outcomes not written yet."""
        return self._writing + sum(entry.known() for entry in self._noted)

    async def run(self) -> None:
        """Write until cancelled. Raises WorkerLost."""
        while True:
            await self._wake.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(COALESCE_SECONDS):
                    await self._hurry.wait()
            self._wake.clear()
            self._hurry.clear()
            await self._write(self._collect())
            while self.backlog() >= CALL_OUTCOMES:
                await self._write(self._collect())
            if self._noted or self._hurry.is_set():
                self._wake.set()
            else:
                self._idle.set()

    async def flushed(self) -> None:
        """Wait until everything noted so far is written."""
        await self._idle.wait()

    def _collect(self) -> list[HeldEntry]:
        total, size, entries = 0, 0, []
        while self._noted and total < CALL_OUTCOMES and size < CALL_BYTES:
            entry = self._noted.popleft()
            total, size = total + entry.known(), size + entry.weight()
            entries.append(entry)
        return entries

    async def _write(self, entries: list[HeldEntry]) -> None:
        self._writing = sum(entry.known() for entry in entries)
        settlements = [entry.settlement() for entry in entries]
        throttled, self._throttled = list(self._throttled.items()), {}
        breakers = [(name, ok, failed, down) for name, (ok, failed, down) in self._breakers.items()]
        self._breakers = {}
        self._number += 1
        failpoints.passed("before_settle")
        started = monotonic()
        verdicts = await self._call(settlements, throttled, breakers)
        failpoints.passed("after_settle")
        metrics.SETTLE_SECONDS.of().observe(monotonic() - started)
        self._writing = 0
        for entry, settlement, owned in zip(entries, settlements, verdicts, strict=True):
            entry.written = settlement.done
            if owned:
                count_settled(entry, settlement)
                if settlement.moves and any(map(self._queue.leaves, settlement.moves)):
                    self._left()
            else:
                metrics.LEASE_LOST.inc()
                entry.lost = True
                log.warning("entry %s was taken over by another worker", settlement.id)

    async def _call(
        self,
        settlements: list[Settlement],
        throttled: list[tuple[str, int]],
        breakers: list[tuple[str, int, int, int]],
    ) -> list[bool]:
        pause = 0.05
        while True:
            try:
                verdicts = await self._queue.settle(
                    self._worker,
                    self._number,
                    settlements,
                    status_seconds=self._config.retention.status,
                    throttled=throttled,
                    breakers=breakers,
                )
                self._outage.answered("settle")
                self.answered_number = self._number
                return verdicts
            except StoreUnavailable as error:
                self._outage.failed("settle", error)
                await self._outage.pause(pause)
                pause = min(pause * 2, 2.0)
