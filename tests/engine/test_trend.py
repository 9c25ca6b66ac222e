"""Rates from what was counted at two moments."""

from __future__ import annotations

from dispatcher.engine.overlook import Outlook, Overlook
from dispatcher.engine.trend import Pace, Trend
from dispatcher.engine.waiting import Standing
from dispatcher.store.inspector import BreakerView, LaneView
from dispatcher.store.survey import StoreView

LANE = "p/sms/de"


def seen(seconds: float, sent: int, *, retried: int = 0, lane: str = LANE) -> Overlook:
    now_us = int(seconds * 1e6)
    view = LaneView(lane, (), {}, sent, retried, 0)
    outlook = Outlook(Standing(view, (), BreakerView(), now_us), None, None, 0.0, {})
    return Overlook({lane: outlook}, {}, StoreView(now_us, {}, sent, 0, 0, 0, 0, 0, {}))


def trend(*moments: Overlook) -> Trend:
    found = Trend(window=5)
    for moment in moments:
        found.add(moment)
    return found


def test_one_moment_has_no_rate() -> None:
    found = trend(seen(0, 100))
    assert (found.sent(), found.pace(LANE)) == (0, Pace())


def test_rates_are_of_the_last_seconds() -> None:
    found = trend(seen(0, 0), seen(10, 1000), seen(12, 1100, retried=4), seen(15, 1500, retried=10))
    assert found.sent() == 100
    assert found.pace(LANE) == Pace(100, 2)


def test_a_store_that_was_emptied_counts_anew() -> None:
    found = trend(seen(0, 1000), seen(1, 10))
    assert (found.sent(), found.pace(LANE)) == (0, Pace())


def test_a_clock_that_steps_back_is_a_new_beginning() -> None:
    found = trend(seen(3600, 1000), seen(3601, 1100), seen(1, 1200), seen(3, 1400))
    assert (found.sent(), found.pace(LANE)) == (100, Pace(100))


def test_a_lane_that_has_just_come() -> None:
    found = trend(seen(0, 0, lane="p/sms/fr"), seen(1, 50))
    assert found.pace(LANE) == Pace()
    assert found.pace("p/sms/fr") == Pace()


def test_codes_come_by_how_frequent_they_are() -> None:
    found = trend(seen(0, 0))
    found.add_codes({LANE: {"a": 1, "old": 5}})
    found.add(seen(2, 0))
    found.add_codes({LANE: {"a": 3, "b": 8, "old": 5}})
    assert found.codes(LANE) == {"b": 4, "a": 1}
    assert found.codes("other") == {}
