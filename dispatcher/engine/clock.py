"""Clocks: one that never stops, for slots and leases, and the store's, for times that are kept."""

from __future__ import annotations

import time

from dispatcher.exchange import monotonic as monotonic


class StoreClock:
    """The store's wall clock, carried on by the local monotonic one between two answers."""

    def __init__(self) -> None:
        self._offset_us = time.time() * 1e6 - monotonic() * 1e6

    def learn(self, now_us: int, asked: float, answered: float) -> None:
        """Take over the store's time `now_us`, read between two local moments (seconds)."""
        self._offset_us = now_us - (asked + answered) / 2 * 1e6

    def now_us(self) -> int:
        """Microseconds since the epoch, as the store would say."""
        return int(monotonic() * 1e6 + self._offset_us)
