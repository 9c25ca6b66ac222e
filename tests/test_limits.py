"""Calendar periods of quotas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.limits import Period, period_ends


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("period", "zone", "now", "first", "second"),
    [
        ("day", "UTC", "2026-11-27T23:59:59+00:00", "2026-11-28T00:00:00+00:00",
         "2026-11-29T00:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-03-28T12:00:00+01:00", "2026-03-29T00:00:00+01:00",
         "2026-03-30T00:00:00+02:00"),
        ("day", "America/New_York", "2026-11-01T12:00:00-05:00", "2026-11-02T00:00:00-05:00",
         "2026-11-03T00:00:00-05:00"),
        ("month", "UTC", "2026-12-31T23:00:00+00:00", "2027-01-01T00:00:00+00:00",
         "2027-02-01T00:00:00+00:00"),
        ("month", "Asia/Tokyo", "2026-10-31T16:00:00+00:00", "2026-12-01T00:00:00+09:00",
         "2027-01-01T00:00:00+09:00"),
    ],
)  # fmt: skip
def test_a_period_ends_at_midnight_there(
    period: Period, zone: str, now: str, first: str, second: str
) -> None:
    assert period_ends(period, us(now), ZoneInfo(zone)) == (us(first), us(second))


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia"]),
    st.sampled_from(["day", "month"]),
)
def test_ends_follow_one_another(now: datetime, zone: str, period: Period) -> None:
    now_us = round(now.timestamp() * 1e6)
    first, second = period_ends(period, now_us, ZoneInfo(zone))
    assert now_us < first < second
    longest = timedelta(days=1, hours=2) if period == "day" else timedelta(days=31, hours=2)
    assert first - now_us <= longest.total_seconds() * 1e6
    assert period_ends(period, first, ZoneInfo(zone))[0] == second
