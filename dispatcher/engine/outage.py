"""What a process knows of trouble with its store, and says of it: every state once."""

from __future__ import annotations

import logging

from dispatcher.engine.clock import monotonic
from dispatcher.errors import STORE_STATES, StoreState, StoreUnavailable

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0
"""A state that comes and goes is said again after so long at the earliest."""


class Outage:
    """Gathers what the roles of a process meet. An outage begins when one of them gets no answer,
    and is over when all that got none have had one."""

    def __init__(self) -> None:
        self._failing: dict[str, StoreState] = {}
        self._said: dict[StoreState, float] = {}
        self._told: set[StoreState] = set()
        self._since = 0.0

    @property
    def reason(self) -> str:
        """What is wrong now, in a few words; empty while nothing is."""
        state = next(reversed(self._failing.values()), None)
        return "" if state is None else STORE_STATES[state]

    def failed(self, role: str, error: StoreUnavailable) -> None:
        """This role got no answer and will ask again."""
        now, state = monotonic(), error.state
        if not self._failing:
            self._since = now
        self._failing.pop(role, None)
        self._failing[role] = state
        if state not in self._told and now >= self._said.get(state, 0.0) + QUIET_SECONDS:
            self._told.add(state)
            self._said[state] = now
            log.warning("%s; waiting", error)

    def answered(self, role: str) -> None:
        """This role got what it asked for."""
        if role in self._failing:
            del self._failing[role]
            if not self._failing:
                self._end()

    def over(self) -> None:
        """The store is well, whatever a role may have met before."""
        if self._failing:
            self._failing.clear()
            self._end()

    def _end(self) -> None:
        if self._told:
            log.warning("store is well again after %.1f s", monotonic() - self._since)
        self._told.clear()
