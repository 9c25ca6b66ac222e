"""When a failed message is tried again."""

from __future__ import annotations

from collections.abc import Callable

_MAX_DOUBLINGS = 1000
"""Below the 1024 at which a float overflows, and far above what any `maximum` lets through."""


def backoff(attempt: int, base: float, maximum: float, random: Callable[[], float]) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) has failed.

    Exponential with full jitter: uniform between 0 and `base * 2 ** (attempt - 1)` seconds, never
    above `maximum`. `random` returns a number in [0, 1). The whole range is random so that
    messages which failed together do not come back together.
    Raises ValueError for an attempt below 1.
    """
    if attempt < 1:
        raise ValueError(f"attempt is {attempt}; attempts count from 1")
    ceiling = base * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)
    return random() * min(maximum, ceiling)
