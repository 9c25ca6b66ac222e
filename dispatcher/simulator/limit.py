"""The rate a fake provider holds its clients to."""

from __future__ import annotations

NANOSECOND = 1e-9


class Bucket:
    """A token bucket on a clock in nanoseconds that the caller brings.

    In any window of W seconds at most `burst + rate * W` single tokens are given. Several tokens
    taken together are given as soon as one is there; the rest is owed, so that a request of any
    size can pass and the long-run rate still holds.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate / NANOSECOND
        self._slack = (burst - 1) * self._interval
        self._origin: int | None = None
        self._spent_until = 0.0

    def take(self, now_ns: int, tokens: int = 1) -> float:
        """Take `tokens`: 0.0 when they are given, else the seconds until they would be."""
        if self._origin is None:
            self._origin = now_ns
        now = float(now_ns - self._origin)
        base = max(self._spent_until, now)
        early = base - now - self._slack
        if early > 0:
            return early * NANOSECOND
        self._spent_until = base + tokens * self._interval
        return 0.0
