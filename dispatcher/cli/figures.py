"""Rates and spans of time as commands print them."""

from __future__ import annotations

_RATES = (("s", 1), ("min", 60), ("h", 3600))
_SPANS = (("s", 1), ("min", 60), ("h", 3600), ("d", 86_400))
_TURN = 2
"""A span is told in the largest unit that it has two of."""


def rounded(value: float) -> float:
    """A measured rate or time with the digits that mean something: six."""
    return float(f"{value:.6g}")


def rate_text(per_second: float | None) -> str:
    """A rate in the unit in which it is at least 1: "75/s", "30/min"; "none" without one."""
    if per_second is None:
        return "none"
    unit, seconds = next((u for u in _RATES if round(per_second * u[1], 3) >= 1), _RATES[-1])
    return f"{round(per_second * seconds, 3):,.10g}/{unit}"


def span_text(seconds: float) -> str:
    """About how long, in one unit: "0.3 s", "12 min", "5 h"; "" for no time at all."""
    if seconds <= 0:
        return ""
    if seconds < 10:
        return f"{max(0.1, round(seconds, 1)):g} s"
    unit, size = [span for span in _SPANS if seconds >= _TURN * span[1]][-1]
    return f"{round(seconds / size):,} {unit}"
