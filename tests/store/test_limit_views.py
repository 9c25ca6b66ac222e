"""What a limit lets pass, from its fields in the store."""

from __future__ import annotations

import pytest

from dispatcher.limits import CalendarQuota, Limit
from dispatcher.store.limit_views import DAY_US, LimitView, QuotaView, limit_view, unused_view

NOW = 1_700_000_000_000_000
PLAIN = {"interval": "10000.000000", "burst": "1", "tat": "0"}


def of(**fields: object) -> LimitView:
    return limit_view("carrier:a", PLAIN | {k: str(v) for k, v in fields.items()}, NOW)


def test_a_rate_as_configured() -> None:
    found = of()
    assert (found.interval_us, found.configured_us, found.set_us) == (10_000, 10_000, None)
    assert (found.burst, found.factor, found.segments, found.quotas) == (1, 1.0, False, ())
    assert of(segments=1).segments


@pytest.mark.parametrize(
    ("until", "interval"), [(0, 500), (NOW + 1, 500), (NOW, 10_000), (NOW - 1, 10_000)]
)
def test_an_operators_rate_stands_above_until_it_ends(until: int, interval: float) -> None:
    found = of(set="500.000000", set_until=until)
    assert found.interval_us == interval
    assert found.configured_us == 10_000
    assert found.set_until_us == (until if interval == 500 else 0)


@pytest.mark.parametrize(("days", "interval"), [(0, 400), (0.99, 400), (1, 200), (2, 10_000)])
def test_a_ramp_goes_by_age(days: float, interval: float) -> None:
    found = of(ramp="400 200", born=int(NOW - days * DAY_US))
    assert (found.interval_us, found.configured_us) == (interval, interval)


def test_an_operators_rate_stands_above_a_ramp() -> None:
    assert of(ramp="400 200", born=NOW, set="500", set_until=0).interval_us == 500


def test_a_slowed_limit_recovers() -> None:
    assert of(factor=0.5, factored=NOW).interval_us == 20_000
    assert of(factor=0.5, factored=NOW - 5_000_000).interval_us == pytest.approx(10_000 / 0.75)
    assert of(factor=0.5, factored=NOW - 3_600_000_000).factor == 1.0
    assert of(factor=0.5, factored=NOW, set="500", set_until=0).interval_us == 1000


@pytest.mark.parametrize(
    ("burst", "ahead", "used"),
    [
        (1, -1, 0),
        (1, 5000, 0.5),
        (1, 10_000, 1),
        (1, 90_000, 1),
        (10, 10_000, 1),
        (10, -40_000, 0.5),
        (10, -90_000, 0),
        (10, -(10**9), 0),
    ],
)
def test_how_full_it_is(burst: int, ahead: int, used: float) -> None:
    assert of(burst=burst, tat=NOW + ahead).used == pytest.approx(used, abs=1e-3)


def test_without_a_rate() -> None:
    found = of(interval="0.000000", tat=NOW + 10**6)
    assert (found.used, found.booked_us, found.interval_us) == (None, 0, 0)
    assert found.wake_us <= NOW
    assert of(interval="0.000000", pause=NOW + 7).wake_us == NOW + 7


def test_when_it_lets_the_next_pass() -> None:
    assert of(tat=NOW + 5, pause=NOW + 3).wake_us == NOW + 5
    assert of(tat=NOW + 5, pause=NOW + 9).wake_us == NOW + 9
    assert of(tat=NOW + 5, pause=NOW + 9).paused_us == 9
    assert of(tat=NOW - 5).booked_us == 0


DAILY = {"quota:day": 100, "used:day": 100, "ends:day": NOW + 50, "next:day": NOW + 50 + DAY_US}
MONTHLY = {"quota:month": 500, "used:month": 499, "ends:month": NOW + 99, "next:month": NOW + 999}


def test_a_spent_quota_holds_to_its_end() -> None:
    found = of(**DAILY, **MONTHLY)
    assert found.quotas == (
        QuotaView("day", 100, 100, NOW + 50), QuotaView("month", 500, 499, NOW + 99),
    )  # fmt: skip
    assert found.spent == found.quotas[0]
    assert found.wake_us == NOW + 50
    assert of(**DAILY | MONTHLY | {"used:month": 500}).wake_us == NOW + 99
    assert of(**DAILY | {"used:day": 99}).wake_us <= NOW


def test_a_quota_whose_period_has_ended_is_unused() -> None:
    (quota,) = of(**DAILY | {"ends:day": NOW}).quotas
    assert quota == QuotaView("day", 100, 0, NOW + 50 + DAY_US)


def test_a_limit_that_nothing_has_used_yet() -> None:
    quota = CalendarQuota(7, "month", (NOW + 1, NOW + 2))
    found = unused_view(Limit("x", 100.0, 3, True, (400.0, 200.0), (quota,)), NOW)
    assert (found.interval_us, found.burst, found.segments, found.used) == (400.0, 3, True, 0)
    assert found.quotas == (QuotaView("month", 7, 0, NOW + 1),)
    assert unused_view(Limit("x", 100.0), NOW).interval_us == 100.0
