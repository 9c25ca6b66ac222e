"""The mathematics of the throttle benchmark against their definitions."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from itertools import accumulate
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.arrivals import (
    held_from,
    jain,
    percentile,
    promise,
    regained,
    slack_used,
    used,
    worst_burst,
)
from benchmarks.stamping_sink import StampingSink

GAPS = st.floats(0, 10)
COSTS = st.floats(0.5, 50)
ARRIVALS = st.lists(st.tuples(GAPS, COSTS), min_size=1, max_size=40)
RATES = st.floats(0.1, 1000)


def flow(rate: float, count: int, first: float = 0.0) -> list[float]:
    return [first + index / rate for index in range(count)]


@given(ARRIVALS, RATES)
def test_worst_burst_is_the_largest_excess_over_all_windows(
    arrivals: list[tuple[float, float]], rate: float
) -> None:
    times = list(accumulate(gap for gap, _ in arrivals))
    costs = [cost for _, cost in arrivals]
    excesses = [
        sum(costs[begin : end + 1]) - rate * (times[end] - times[begin])
        for begin in range(len(times))
        for end in range(begin, len(times))
    ]
    assert worst_burst(times, costs, rate) == pytest.approx(max(excesses), rel=1e-9, abs=1e-6)


@given(RATES, st.integers(1, 50), st.integers(1, 50))
def test_a_burst_and_then_the_rate_shows_that_burst(rate: float, burst: int, more: int) -> None:
    times = [0.0] * burst + [at + 1 / rate for at in flow(rate, more)]
    assert worst_burst(times, [1.0] * len(times), rate) == pytest.approx(burst)


@given(RATES, st.floats(0, 1), st.integers(1, 5))
def test_the_slack_used_keeps_its_promise_and_no_less_would(
    rate: float, slack: float, burst: int
) -> None:
    worst = promise(rate, burst, slack)
    assert slack_used(worst, rate, burst) == pytest.approx(slack, rel=1e-6, abs=1e-6)
    assert promise(rate, burst, slack_used(worst, rate, burst)) == pytest.approx(worst)


@given(ARRIVALS, RATES, st.floats(1, 100))
def test_a_rate_holds_after_the_last_arrival_with_which_a_worse_window_begins(
    arrivals: list[tuple[float, float]], rate: float, bound: float
) -> None:
    times = list(accumulate(gap for gap, _ in arrivals))
    costs = [cost for _, cost in arrivals]

    def worst(first: int) -> float:
        return worst_burst(times[first:], costs[first:], rate)

    held = held_from(times, costs, rate, bound)
    if held is not None:
        assert worst(bisect_left(times, held)) > bound * (1 - 1e-6)
    assert worst(0 if held is None else bisect_right(times, held)) <= bound * (1 + 1e-6)


def test_a_lowered_rate_holds_from_the_last_arrival_of_the_higher_one() -> None:
    times = flow(100, 50) + flow(10, 50, first=1.0)
    assert held_from(times, [1.0] * len(times), 10, 1.5) == pytest.approx(0.48)
    assert held_from(flow(10, 50), [1.0] * 50, 10, 1.5) is None


def test_a_request_of_many_messages_may_exceed_the_rate_by_its_size() -> None:
    assert promise(100, 1, 0.05) == 6
    assert promise(100, 1, 0.05, request=20) == 26


def test_no_arrivals_are_no_burst() -> None:
    assert worst_burst([], [], 1.0) == 0


@given(st.integers(1, 500), st.integers(1, 10), st.floats(0, 100))
def test_an_even_flow_uses_all_of_its_rate(rate: int, seconds: int, first: float) -> None:
    times = flow(rate, rate * (seconds + 2), first)
    share = used(times, [1.0] * len(times), rate, times[0], times[0] + seconds)
    assert share == pytest.approx(1.0, abs=1 / (rate * seconds) + 1e-9)


def test_a_pause_shows_in_the_use() -> None:
    times = flow(10, 51) + flow(10, 40, first=6.0)
    assert used(times, [1.0] * len(times), 10, 0.0, 9.95) == pytest.approx(0.905, abs=0.01)
    assert used(times, [2.0] * len(times), 10, 0.0, 5.05) == pytest.approx(2.0, abs=0.02)


def test_the_arrival_a_span_begins_with_is_not_of_it_and_the_one_at_its_end_is() -> None:
    assert used([0.0, 1.0, 2.0, 3.0], [1.0] * 4, 1.0, 0.0, 2.0) == 1.0


def test_an_empty_span_has_no_use() -> None:
    with pytest.raises(ValueError, match="empty"):
        used([1.0], [1.0], 1.0, 2.0, 2.0)


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=30), st.floats(0.1, 10))
def test_jain_lies_between_one_share_and_equal_shares_whatever_the_unit(
    values: list[float], unit: float
) -> None:
    index = jain(values)
    assert 1 / len(values) - 1e-9 <= index <= 1 + 1e-9
    assert jain([value * unit for value in values]) == pytest.approx(index)


def test_jain_of_known_shares() -> None:
    assert jain([7, 7, 7]) == 1
    assert jain([5, 0, 0, 0]) == 0.25
    assert jain([3, 1]) == 0.8
    assert jain([0, 0]) == 1


@given(st.lists(st.integers(0, 100), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_covers_the_share(
    values: list[int], share: float
) -> None:
    found = percentile(values, share)
    covering = [v for v in values if sum(other <= v for other in values) >= share * len(values)]
    assert found == min(covering)


def test_the_rate_is_regained_where_a_second_holds_enough_of_it() -> None:
    times = flow(50, 100, first=1.0) + flow(100, 300, first=3.0)
    found = regained(times, 100, 1.0)
    assert found == pytest.approx(1.92, abs=0.05)
    assert regained(flow(50, 100), 100, 0.0) is None


async def test_the_sink_remembers_what_arrived_and_refuses_to_order(tmp_path: Path) -> None:
    sink = StampingSink(tmp_path / "arrivals")
    try:
        async with aiohttp.ClientSession() as client:

            async def post(path: str, body: str) -> aiohttp.ClientResponse:
                async with client.post(f"{sink.url}{path}", data=body) as answer:
                    await answer.read()
                    return answer

            plain = await post("/one", '{"from":"A","to":"+4915100000001"}')
            await post("/one", '{"messages":[{"from":"A","to":"+2"},{"from":"A","to":"+3"}]}')
            await post("/form", "To=%2B4&From=B&Body=Hi")
            sink.throttle(60, 5)
            refused = await post("/one", '{"from":"A","to":"+5"}')
        assert (plain.status, refused.status) == (201, 429)
        assert refused.headers["Retry-After"] == "5"
        assert sink.count() == 5
        arrivals = await asyncio.to_thread(sink.end)
    finally:
        sink.close()
    assert [(a.path, a.sender, a.to, a.accepted) for a in arrivals] == [
        ("/one", "A", 4915100000001, True),
        ("/one", "A", 2, True),
        ("/one", "A", 3, True),
        ("/form", "B", 4, True),
        ("/one", "A", 5, False),
    ]
    assert all(arrival.first <= arrival.last for arrival in arrivals)
