"""How fast messages go, from what was counted at two moments."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from dispatcher.engine.overlook import Overlook

WINDOW_SECONDS = 5.0
"""Rates are of about this time: lanes that send every few seconds have one, too."""


class Counts(NamedTuple):
    """Messages of a lane since the store began: sent, and failed in some way (retried or dead)."""

    sent: int
    failed: int


class Pace(NamedTuple):
    """The same per second."""

    sent: float = 0.0
    failed: float = 0.0


class _Moment(NamedTuple):
    at_us: int
    sent: int
    lanes: dict[str, Counts]
    codes: dict[str, dict[str, int]]


class Trend:
    """Remembers what was counted in the last seconds."""

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._window_us = window * 1e6
        self._moments: deque[_Moment] = deque()

    def add(self, found: Overlook) -> None:
        """Note what was read now: a new beginning after a step back of the store's clock."""
        if self._moments and self._moments[-1].at_us > found.store.now_us:
            self._moments.clear()
        lanes = {
            name: Counts(lane.sent, lane.retried + lane.dead)
            for name, lane in ((name, item.standing.lane) for name, item in found.lanes.items())
        }
        self._moments.append(_Moment(found.store.now_us, found.store.sent, lanes, {}))
        oldest = found.store.now_us - self._window_us
        while len(self._moments) > 2 and self._moments[1].at_us <= oldest:
            self._moments.popleft()

    def add_codes(self, codes: dict[str, dict[str, int]]) -> None:
        """Note lane → code → messages, of some lanes, as read with the last `add`."""
        self._moments[-1].codes.update(codes)

    def sent(self) -> float:
        """Messages of all lanes per second."""
        return self._per_second(self._moments[0].sent, self._moments[-1].sent)

    def pace(self, lane: str) -> Pace:
        """Of one lane."""
        now = self._moments[-1].lanes.get(lane)
        before = next((m.lanes[lane] for m in self._moments if lane in m.lanes), now)
        if now is None or before is None:
            return Pace()
        pairs = zip(before, now, strict=True)
        return Pace(*(self._per_second(first, last) for first, last in pairs))

    def codes(self, lane: str) -> dict[str, float]:
        """Code → messages per second that were not accepted for it, the most frequent first."""
        known = [(m.at_us, m.codes[lane]) for m in self._moments if lane in m.codes]
        if len(known) < 2:
            return {}
        (since_us, before), (now_us, now) = known[0], known[-1]
        seconds = (now_us - since_us) / 1e6
        rates = {code: (n - before.get(code, 0)) / seconds for code, n in now.items()}
        falling = sorted(rates.items(), key=lambda item: (-item[1], item[0]))
        return {code: rate for code, rate in falling if rate > 0}

    def _per_second(self, before: int, now: int) -> float:
        """A store that was emptied begins to count anew."""
        passed = self._moments[-1].at_us - self._moments[0].at_us
        return max(0, now - before) / passed * 1e6 if passed > 0 else 0.0
