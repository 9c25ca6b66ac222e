"""What a process knows of trouble with its store, and says of it: every state once."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field

from dispatcher.engine.clock import monotonic
from dispatcher.errors import StoreState, StoreUnavailable

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0
"""A state that comes and goes is said again after so long at the earliest."""


@dataclass(slots=True)
class _Trouble:
    """What all parts of an outage share; roles are named by their cell and what they do, states by
    the cell of a cluster that is in them."""

    failing: dict[tuple[str, str], StoreUnavailable] = field(default_factory=dict)
    said: dict[tuple[StoreState, str], float] = field(default_factory=dict)
    told: set[tuple[StoreState, str]] = field(default_factory=set)
    since: float = 0.0
    eased: asyncio.Event = field(default_factory=asyncio.Event)


class Outage:
    """Gathers what the roles of a process meet. An outage begins when one of them gets no answer,
    and is over when all that got none have had one."""

    def __init__(self) -> None:
        self._cell = ""
        self._trouble = _Trouble()

    def of(self, cell: str) -> Outage:
        """The same, for the roles of one cell: an answer to them is none to those of another."""
        part = Outage()
        part._cell, part._trouble = cell, self._trouble
        return part

    @property
    def reason(self) -> str:
        """What is wrong now, in a few words; empty while nothing is."""
        error = next(reversed(self._trouble.failing.values()), None)
        return "" if error is None else error.reason

    def failed(self, role: str, error: StoreUnavailable) -> None:
        """This role got no answer and will ask again."""
        now, state, trouble = monotonic(), (error.state, error.cell), self._trouble
        if not trouble.failing:
            trouble.since = now
        trouble.failing.pop((self._cell, role), None)
        trouble.failing[self._cell, role] = error
        if state not in trouble.told and now >= trouble.said.get(state, 0.0) + QUIET_SECONDS:
            trouble.told.add(state)
            trouble.said[state] = now
            log.warning("%s; waiting", error)

    def answered(self, role: str) -> None:
        """This role got what it asked for."""
        trouble = self._trouble
        if trouble.failing.pop((self._cell, role), None):
            trouble.eased.set()
            trouble.eased.clear()
            if not trouble.failing:
                self._end()

    async def pause(self, seconds: float) -> None:
        """Wait before asking again, no longer than until a role is answered that was not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._trouble.eased.wait()

    def over(self) -> None:
        """The store is well, whatever a role may have met before."""
        for cell, role in list(self._trouble.failing):
            if cell == self._cell:
                self.answered(role)

    def _end(self) -> None:
        if self._trouble.told:
            seconds = monotonic() - self._trouble.since
            log.warning("store is well again after %.1f s", seconds)
        self._trouble.told.clear()
