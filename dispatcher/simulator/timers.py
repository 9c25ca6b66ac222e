"""Many delays, one event loop timer."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from itertools import count

TICK = 0.001
"""Seconds. A delay is rounded up to a whole tick, so that delays ending together share a timer."""


class Timers:
    """Calls functions later on the loop that is running. Not for use across loops."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def call_later(self, delay: float, function: Callable[[], None]) -> None:
        """Call `function` in `delay` seconds."""
        loop = asyncio.get_running_loop()
        due = math.ceil((loop.time() + delay) / TICK)
        heapq.heappush(self._heap, (due, next(self._order), function))
        if self._handle is None or due < self._armed_for:
            self._arm(loop)

    def clear(self) -> None:
        """Forget every call that is not yet due."""
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = self._heap[0][0]
        self._handle = loop.call_at(self._armed_for * TICK, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = None
        now = max(self._armed_for, int(loop.time() / TICK))
        due: list[Callable[[], None]] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        if self._heap:
            self._arm(loop)
        for function in due:
            function()
