"""What a lane waits for and when its messages go, decided from what the store says."""

from __future__ import annotations

import pytest

from dispatcher.engine.waiting import Standing, binding, opens_us, reason, turns, waiting_lanes
from dispatcher.store.inspector import BreakerView, LaneView
from dispatcher.store.limit_views import LimitView, limit_view

NOW = 1_700_000_000_000_000
LANE = "p/sms/a"
SECOND = 1_000_000
QUOTA = {"quota:day": 9, "used:day": 9, "ends:day": NOW + SECOND}
"""Used up."""


def limit(name: str, ahead_us: int = -SECOND, interval: float = 10_000, **more: int) -> LimitView:
    fields = {"interval": f"{interval}", "burst": "1", "tat": str(NOW + ahead_us)}
    return limit_view(name, fields | {k: str(v) for k, v in more.items()}, NOW)


def lane(name: str = LANE, *limits: str, bulk: int = 0, **more: int) -> LaneView:
    depth = {"urgent": more.get("urgent", 0), "normal": more.get("normal", 0), "bulk": bulk}
    return LaneView(name, limits, depth, 0, 0, 0)


def standing(
    *limits: LimitView, at: LaneView | None = None, breaker: BreakerView | None = None
) -> Standing:
    return Standing(at or lane(), limits, breaker or BreakerView(), NOW)


def test_the_limit_with_the_latest_slot_binds() -> None:
    near, far, free = limit("near", 5), limit("far", 90_000), limit("free")
    assert binding([near, far, free], NOW) is far
    assert binding([free], NOW) is None
    assert binding([], NOW) is None


def test_lanes_wait_for_the_limit_that_binds_them() -> None:
    limits = {"provider:p": limit("provider:p", 5), "carrier:a": limit("carrier:a", 90_000)}
    lanes = [
        lane("p/sms/a", "provider:p", "carrier:a", bulk=3),
        lane("p/sms/b", "provider:p", bulk=1),
        lane("p/sms/c", "provider:p"),
        lane("p/sms/d", "gone", bulk=1),
    ]
    assert waiting_lanes(lanes, limits, NOW) == {
        "carrier:a": ["p/sms/a"], "provider:p": ["p/sms/b"],
    }  # fmt: skip


def test_nothing_holds_it_back() -> None:
    past = lane()._replace(suspended_us=NOW - 1, paused_us=NOW - 1)
    assert reason(standing(limit("free"), at=past)) is None
    assert opens_us(standing(limit("free"), at=past)) == NOW


@pytest.mark.parametrize(
    ("stands", "words", "opens"),
    [
        (standing(limit("carrier:a", 90_000)), "limit carrier:a", NOW + 90_000),
        (
            standing(at=lane()._replace(suspended_us=NOW + SECOND, reason="wrong text")),
            "suspended: wrong text",
            NOW + SECOND,
        ),
        (
            standing(at=lane()._replace(suspended_us=NOW + SECOND)),
            "suspended: until 2023-11-14T22:13:21+00:00",
            NOW + SECOND,
        ),
        (
            standing(limit("free"), breaker=BreakerView("open", NOW + 3 * SECOND)),
            "provider p is down (breaker open)",
            NOW + 3 * SECOND,
        ),
        (
            standing(limit("a", 5), at=lane()._replace(paused_us=NOW + SECOND)),
            f"lane {LANE}: paused by the provider until 2023-11-14T22:13:21+00:00",
            NOW + SECOND,
        ),
        (
            standing(limit("x", **QUOTA), limit("y", 5)),
            "quota x (9/day) until 2023-11-14T22:13:21+00:00",
            NOW + SECOND,
        ),
        (
            standing(
                limit("x", **QUOTA),
                limit("y", 2 * SECOND),
            ),
            "limit y",
            NOW + 2 * SECOND,
        ),
        (
            standing(limit("x", 5, **QUOTA, pause=NOW + 2 * SECOND)),
            "limit x",
            NOW + 2 * SECOND,
        ),
    ],
)
def test_what_holds_it_back(stands: Standing, words: str, opens: int) -> None:
    assert reason(stands) == words
    assert opens_us(stands) == opens


def test_a_suspension_is_told_before_a_limit() -> None:
    at = lane()._replace(suspended_us=NOW + SECOND, reason="r")
    open_ = BreakerView("open", NOW + SECOND)
    assert reason(standing(limit("a", 9 * SECOND), at=at, breaker=open_)) == "suspended: r"


def test_turns_go_by_class() -> None:
    at = lane(urgent=10, normal=20, bulk=1000)
    found = turns(standing(limit("a", SECOND, 100_000), limit("b"), at=at), {})
    assert found == pytest.approx({"urgent": 1 + 1, "normal": 1 + 3, "bulk": 1 + 103})


def test_a_class_has_its_floor() -> None:
    at = lane(urgent=100_000, normal=1, bulk=2)
    found = turns(standing(limit("a", 0, 100_000), at=at), {})
    assert found == pytest.approx({"urgent": 10_000, "normal": 2, "bulk": 4})


def test_lanes_that_wait_for_the_same_limit_share_it() -> None:
    stands = standing(limit("a", 0, SECOND), limit("b"), at=lane(urgent=5))
    assert turns(stands, {"a": [LANE, "p/sms/b"]})["urgent"] == 10
    assert turns(stands, {"a": ["p/sms/b", "p/sms/c"]})["urgent"] == 15
    assert turns(stands, {"b": ["p/sms/b"]})["urgent"] == 5


def test_without_a_rate_all_goes_at_once() -> None:
    stands = standing(limit("a", 0, 0), at=lane(bulk=10**6))
    assert set(turns(stands, {}).values()) == {0.0}
