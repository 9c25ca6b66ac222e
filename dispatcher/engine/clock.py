"""Clocks: one that never stops, for slots and leases, and the store's, for times that are kept."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import NamedTuple

from dispatcher.exchange import monotonic as monotonic
from dispatcher.store.claims import Lead

log = logging.getLogger(__name__)

DRIFT = 100e-6
"""How much faster or slower the store's clock may run than ours; both are kept by NTP."""
DOUBT_SECONDS = 0.01
"""What is left open of a moment in the store's time, at most. Of a store whose fastest answer takes
more than twice as long, the way there is taken to be about as long as the way back."""
NEAR_SECONDS = 0.01
"""A way that takes less than this needs no planning ahead."""
STEP_SECONDS = 1.0
"""A step of the store's clock that is worth a line in the log."""
FAR_SECONDS = 0.5
"""How long a way may be for slots to be planned for it."""
WAYS = 5
"""Of so many ways the second longest counts: a single late answer is no sign of the next."""


class Moment(NamedTuple):
    """When the store said something: between these two local times (seconds)."""

    earliest: float
    latest: float


class StoreClock:
    """The store's wall clock, carried on by the local monotonic one between two answers.

    An answer tells how far apart the two clocks are to within the time it took. What faster answers
    have told before holds for later ones as well, but for the drift since.
    """

    def __init__(self) -> None:
        self._apart_us = time.time() * 1e6 - monotonic() * 1e6
        self._least, self._most = float("-inf"), float("inf")
        self._learnt_at = 0.0
        self._there: deque[float] = deque(maxlen=WAYS)
        self._back: deque[float] = deque(maxlen=WAYS)

    def learn(self, now_us: int, asked: float, answered: float) -> Moment:
        """Take over the store's time `now_us`, read between two local moments (seconds)."""
        self._narrow(now_us, asked, answered)
        self._apart_us = (self._least + self._most) / 2
        said = (now_us - self._apart_us) / 1e6
        self._there.append(said - asked)
        self._back.append(answered - said)
        doubt = min((self._most - self._least) / 2e6, DOUBT_SECONDS)
        return Moment(max(asked, said - doubt), min(answered, said + doubt))

    def _narrow(self, now_us: int, asked: float, answered: float) -> None:
        """How far both clocks are apart at least and at most (us); a step begins anew."""
        least, most = now_us - answered * 1e6, now_us - asked * 1e6
        drift = max(0.0, answered - self._learnt_at) * DRIFT * 1e6
        self._least, self._most = self._least - drift, self._most + drift
        if self._least <= most and least <= self._most:
            least, most = max(least, self._least), min(most, self._most)
        else:
            ahead = least - self._most if least > self._most else most - self._least
            _tell_step(ahead / 1e6)
        self._least, self._most = least, most
        self._learnt_at = max(asked, self._learnt_at)

    def lead(self) -> Lead:
        """How far ahead slots must be asked for: what the last answers took."""
        return Lead(self._far(self._there), self._far(self._back))

    @staticmethod
    def _far(ways: deque[float]) -> float:
        way = sorted(ways)[-2] if len(ways) > 1 else 0.0
        return min(way, FAR_SECONDS) if way > NEAR_SECONDS else 0.0

    def now_us(self) -> int:
        """Microseconds since the epoch, as the store would say."""
        return int(monotonic() * 1e6 + self._apart_us)


def _tell_step(seconds: float) -> None:
    if seconds < -STEP_SECONDS:
        log.warning(
            "the store's clock went back by %.1f s; what lasts or waits for a while keeps the time"
            " it has to go",
            -seconds,
        )
    elif seconds > STEP_SECONDS:
        log.warning(
            "the store's clock went forward by %.1f s; pauses, suspensions and retries end so much"
            " earlier",
            seconds,
        )
