from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.units import (
    Duration,
    Quota,
    Rate,
    Rates,
    format_duration,
    parse_duration,
    parse_rate,
    parse_time,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("15s", 15.0),
        ("0s", 0.0),
        ("30m", 1800.0),
        ("2h", 7200.0),
        ("14d", 1_209_600.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("1m500ms", 60.5),
        ("0.001ms", 0.000001),
        ("3650d", 315_360_000.0),
    ],
)
def test_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "15",
        "s",
        "-1s",
        "1 s",
        "1s ",
        "1s1s",
        "30m1h",
        "1w",
        "1H",
        "\u0661s",
        "1e3s",
        "3650d1ms",
        "9" * 5000 + "d",
    ],
)
def test_other_text_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r'^must be a duration up to 3650d such as "500ms"'):
        parse_duration(text)


@given(st.integers(0, 3650 * 86_400_000_000))
def test_duration_survives_printing_to_the_microsecond(micros: int) -> None:
    seconds = micros / 1_000_000
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (86_400, "1d"), (5400, "1h30m"), (0.0015, "1.5ms"), (60.25, "1m250ms")],
)
def test_duration_is_printed_in_the_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_number_without_unit_is_not_a_duration() -> None:
    with pytest.raises(ValueError, match=r"got 15$"):
        Duration.parse(15)


@pytest.mark.parametrize(
    ("text", "per_second", "interval_us"),
    [
        ("100/s", 100, 10_000),
        ("75/min", 1.25, 800_000),
        ("3600/h", 1, 1_000_000),
        ("0.5/s", 0.5, 2_000_000),
        ("3/s", 3, 1_000_000 / 3),
        ("1000000/s", 1_000_000, 1),
    ],
)
def test_rate_has_its_interval(text: str, per_second: float, interval_us: float) -> None:
    assert parse_rate(text) == Rate(per_second, interval_us, text)


def test_quota_counts_a_calendar_period() -> None:
    assert parse_rate("2000/day") == Quota(2000, "day", "2000/day")
    assert parse_rate("5/month") == Quota(5, "month", "5/month")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "100",
        "100/",
        "/s",
        "0/s",
        "0.0/min",
        "-1/s",
        "1/sec",
        "1 /s",
        "nan/s",
        "inf/s",
        "1.5/day",
        "0/day",
        "1000001/s",
        "1/s\n",
        "1e2/s",
    ],
)
def test_other_text_is_not_a_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a rate"):
        parse_rate(text)


@given(st.integers(1, 10**6), st.sampled_from([("s", 1), ("min", 60), ("h", 3600)]))
def test_interval_times_rate_is_one_second(count: int, period: tuple[str, int]) -> None:
    rate = parse_rate(f"{count}/{period[0]}")
    assert isinstance(rate, Rate)
    assert rate.per_second * rate.interval_us == pytest.approx(1_000_000)
    assert rate.per_second * period[1] == pytest.approx(count)


def test_rates_keep_quotas_apart() -> None:
    rates = Rates.parse(["2000/day", "10/s", "75/min"])
    assert [rate.text for rate in rates] == ["10/s", "75/min"]
    assert [quota.text for quota in rates.quotas] == ["2000/day"]
    assert rates.texts == ["10/s", "75/min", "2000/day"]
    assert rates != Rates.parse(["10/s", "75/min"])
    assert pickle.loads(pickle.dumps(rates)) == rates


@pytest.mark.parametrize("value", [[], 100, None, ["1/s", 2], {"rate": "1/s"}])
def test_rates_are_texts(value: object) -> None:
    with pytest.raises(ValueError, match=r"or a list of them, got"):
        Rates.parse(value)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01 00:00:00.000001z", 1),
        ("1969-12-31T23:59:59-00:00", -1_000_000),
        ("2026-11-27T09:00:00.5+01:00", 1_795_766_400_500_000),
    ],
)
def test_time_is_read_as_microseconds(text: str, micros: int) -> None:
    assert parse_time(text) == micros


@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)),
    st.integers(-23 * 60, 23 * 60),
)
def test_time_survives_any_offset(moment: datetime, offset: int) -> None:
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    text = f"{moment:%Y-%m-%dT%H:%M:%S.%f}{sign}{minutes // 60:02}:{minutes % 60:02}"
    expected = moment.replace(tzinfo=UTC) - timedelta(minutes=offset)
    assert parse_time(text) == (expected - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-27T09:00:00",
        "2026-11-27",
        "2026-11-27T09:00Z",
        "2026-13-27T09:00:00Z",
        "2026-11-27T24:00:00Z",
        "2026-11-27T09:00:00+99:00",
        "2026-W48-5T09:00:00Z",
        "tomorrow",
        "",
    ],
)
def test_a_time_without_offset_or_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be an RFC 3339 time with an offset"):
        parse_time(text)
