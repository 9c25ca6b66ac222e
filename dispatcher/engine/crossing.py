"""Carries messages to the cell of the provider that takes them over."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from dispatcher.engine.outage import Outage
from dispatcher.errors import StoreUnavailable
from dispatcher.store.crossings import Crossings


class Ferry:
    """The role of a worker that empties what leaves a cell: at once what it has settled itself, and
    every `look_seconds` what a worker that ended has left there."""

    def __init__(
        self, crossings: Crossings, status_seconds: float, look_seconds: float, outage: Outage
    ) -> None:
        self._crossings = crossings
        self._outage = outage
        self._status_seconds = status_seconds
        self._look_seconds = look_seconds
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Messages wait to be carried."""
        self._wake.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        pause = 0.05
        while True:
            try:
                await self.carry()
                self._outage.answered("carry")
                pause = 0.05
            except StoreUnavailable as error:
                self._outage.failed("carry", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds * (0.5 + random.random())):
                    await self._wake.wait()

    async def carry(self) -> None:
        """Carry over what waits now. Raises StoreUnavailable."""
        self._wake.clear()
        await self._crossings.carry(self._status_seconds)
