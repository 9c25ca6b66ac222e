"""Carries messages to the cell of the provider that takes them over, or that has moved."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress

from dispatcher.engine.outage import Outage
from dispatcher.errors import StoreUnavailable
from dispatcher.store.crossings import Crossings

log = logging.getLogger(__name__)

FINISH_SECONDS = 2.0
"""How long a worker that ends tries to carry over what it has left."""


class Ferry:
    """The role of a worker that empties what leaves a cell: at once what it has settled itself, and
    every `look_seconds` what a worker that ended has left there, or a provider that is in another
    cell by now."""

    def __init__(
        self, crossings: Crossings, status_seconds: float, look_seconds: float, outage: Outage
    ) -> None:
        self._crossings = crossings
        self._outage = outage
        self._status_seconds = status_seconds
        self._look_seconds = look_seconds
        self._look_at = 0.0
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Messages wait to be carried."""
        self._wake.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        pause = 0.05
        while True:
            try:
                await self._look()
                await self.carry()
                self._outage.answered("carry")
                pause = 0.05
            except StoreUnavailable as error:
                self._outage.failed("carry", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._look_at):
                    await self._wake.wait()

    async def _look(self) -> None:
        """When it is time, see what waits for providers of other cells."""
        now = asyncio.get_running_loop().time()
        if now < self._look_at:
            return
        messages = await self._crossings.send_on()
        if messages:
            log.info("%d messages go on to the cell that their provider is in now", messages)
        self._look_at = now + self._look_seconds * (0.5 + random.random())

    async def finish(self) -> None:
        """Carry over what this worker has left; what cannot get there in time is for others."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                while True:
                    with suppress(StoreUnavailable):
                        return await self.carry()
                    await asyncio.sleep(0.1)

    async def carry(self) -> None:
        """Carry over what waits now. Raises StoreUnavailable."""
        self._wake.clear()
        await self._crossings.carry(self._status_seconds)
