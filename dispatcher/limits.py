"""A limit as everybody speaks of it: what the configuration asks for and the store keeps.

Times are microseconds. A rate is the interval between two units; several units may go at once after
idling (`burst`). Quotas are counts per calendar day or month and are not spaced.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

Period = Literal["day", "month"]


class CalendarQuota(msgspec.Struct, frozen=True):
    """At most `count` units in one `period`. `ends` are the ends of the present period and of the
    next one (us since 1970)."""

    count: int
    period: Period
    ends: tuple[int, int]


class Limit(msgspec.Struct, frozen=True):
    """One limit. `interval_us` is the space between two units, 0 for no rate; `burst` in units;
    `segments`: a message counts as many units as it has segments, else as one. `ramp` are the
    intervals of its first, second ... 24 hours, after which `interval_us` holds."""

    name: str
    interval_us: float = 0.0
    burst: int = 1
    segments: bool = False
    ramp: tuple[float, ...] = ()
    quotas: tuple[CalendarQuota, ...] = ()


def period_ends(period: Period, now_us: int, zone: ZoneInfo) -> tuple[int, int]:
    """When the calendar period of `now_us` ends in a time zone, and when the next one does."""
    local = datetime.fromtimestamp(now_us / 1e6, zone)
    first = _next(period, local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0))
    return _us(first), _us(_next(period, first))


def _next(period: Period, start: datetime) -> datetime:
    if period == "day":
        return start + timedelta(days=1)
    month = start.month % 12 + 1
    return start.replace(year=start.year + (month == 1), month=month, day=1)


def _us(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1_000_000)
