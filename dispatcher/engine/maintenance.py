"""The small roles beside the pumps: the bell, and what other workers and operators have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing

from dispatcher import metrics
from dispatcher.engine.clock import monotonic
from dispatcher.engine.outage import Outage
from dispatcher.engine.pump import Pump
from dispatcher.errors import StoreUnavailable
from dispatcher.store.bell import Bell
from dispatcher.store.control import Announcement, Control

log = logging.getLogger(__name__)

LAG_SECONDS = 1.0
OVERDUE_SECONDS = 0.1
"""An announcement that is not here so long after its number is lost."""


class Changes:
    """Has the pumps look anew at what is announced. Announcements may get lost: when the store
    counts more changes than were heard of, the pumps look anew at everything."""

    def __init__(
        self, control: Control, worker: str, pumps: Mapping[str, Pump], outage: Outage
    ) -> None:
        self._control = control
        self._outage = outage
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
                            self._outage.answered("announcements")
                            self._begin(number)
                            self.numbered(await self._control.number())
                        else:
                            self._hear(announcement)
            except StoreUnavailable as error:
                self._outage.failed("announcements", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    def numbered(self, number: int) -> None:
        """The store has counted so many changes."""
        self._latest = number
        if self._heard is None or number < self._heard:
            self._heard = number
        elif number > self._heard and self._overdue is None:
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
