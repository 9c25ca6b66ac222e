"""The store's time as a worker knows it, beside a world in which both clocks are known."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.engine.clock import DOUBT_SECONDS, DRIFT, FAR_SECONDS, Moment, StoreClock, monotonic
from dispatcher.engine.lane import SLOT_SECONDS, slot_runs
from dispatcher.store.claims import NEAR, Grant, Lead

SURE = 2e-6
"""Seconds: what whole microseconds and floating point may blur."""
WAYS = st.floats(0, 0.3)
EXCHANGES = st.lists(st.tuples(WAYS, WAYS, st.floats(0, 5)), max_size=20)


@dataclass
class World:
    """Local time `now`; the store's clock is `apart` ahead and runs faster by `drift`."""

    apart: float
    drift: float = 0.0
    now: float = 1000.0

    def exchange(self, clock: StoreClock, there: float, back: float) -> tuple[float, Moment]:
        """Ask the store for its time: when it answered by the local clock, and what is known."""
        asked, said, self.now = self.now, self.now + there, self.now + there + back
        return said, clock.learn(round(self.store(said) * 1e6), asked, self.now)

    def store(self, local: float) -> float:
        return local + self.apart + (local - 1000) * self.drift


@given(st.floats(-1e5, 1e5), st.floats(-0.9 * DRIFT, 0.9 * DRIFT), EXCHANGES)
@example(0.0, 0.9 * DRIFT, [(0.0, 0.25, 0.0), (0.25, 0.0, 0.0)])
def test_after_a_fast_answer_the_next_are_known_however_late_they_are(
    apart: float, drift: float, later: list[tuple[float, float, float]]
) -> None:
    world, clock = World(apart, drift), StoreClock()
    said, moment = world.exchange(clock, 0.002, 0.001)
    assert moment.earliest - SURE <= said <= moment.latest + SURE
    for there, back, pause in later:
        world.now += pause
        said, moment = world.exchange(clock, there, back)
        if world.now < 1000 + 15e-3 / (2 * DRIFT):
            assert moment.earliest - SURE <= said <= moment.latest + SURE
            assert moment.latest - moment.earliest <= 2 * DOUBT_SECONDS + SURE


@given(st.floats(-1e5, 1e5), st.lists(st.floats(0, 2), min_size=1, max_size=20))
def test_ways_of_one_length_tell_the_moment(apart: float, ways: list[float]) -> None:
    world, clock = World(apart), StoreClock()
    for way in ways:
        said, moment = world.exchange(clock, way, way)
        assert moment.earliest - SURE <= said <= moment.latest + SURE
        assert moment.latest - moment.earliest <= 2 * DOUBT_SECONDS + SURE


@given(st.floats(-1e5, 1e5).filter(lambda step: abs(step) > 0.01), EXCHANGES)
def test_a_step_of_the_clock_is_known_at_once(
    step: float, before: list[tuple[float, float, float]]
) -> None:
    world, clock = World(5.0), StoreClock()
    for there, back, pause in before:
        world.now += pause
        world.exchange(clock, there, back)
    world.exchange(clock, 0.0005, 0.0005)
    world.apart += step
    said, moment = world.exchange(clock, 0.002, 0.001)
    assert moment.earliest - SURE <= said <= moment.latest + SURE
    before, told, after = monotonic(), clock.now_us() / 1e6, monotonic()
    assert world.store(before) - 0.002 <= told <= world.store(after) + 0.002


def test_one_late_answer_is_no_reason_to_plan_ahead() -> None:
    world, clock = World(0.0), StoreClock()
    assert clock.lead() == NEAR
    for _ in range(5):
        world.exchange(clock, 0.001, 0.002)
    world.exchange(clock, 0.3, 0.2)
    assert clock.lead() == NEAR
    world.exchange(clock, 0.1, 0.1)
    assert clock.lead() == pytest.approx((0.1, 0.1), abs=0.002)
    for _ in range(4):
        world.exchange(clock, 0.001, 0.002)
    assert clock.lead() == NEAR


def test_there_is_a_most_to_plan_ahead() -> None:
    world, clock = World(0.0), StoreClock()
    for _ in range(3):
        world.exchange(clock, 3.0, 4.0)
    assert clock.lead() == Lead(FAR_SECONDS, FAR_SECONDS)


def grant(count: int, offset: float, spacing: float, paced: bool = True) -> Grant:
    return Grant("p/sms/a", 1, int(offset * 1e6), spacing * 1e6, count, paced, [], [])


@given(
    st.floats(0, 2 * DOUBT_SECONDS),
    st.floats(0, 1),
    st.integers(-500, 500),
    st.integers(1, 100),
    st.integers(1, 200),
)
def test_slots_are_used_within_the_promise_whenever_the_store_spoke(
    doubt: float, part: float, offset_ms: int, spacing_ms: int, count: int
) -> None:
    begin = Moment(100.0, 100.0 + doubt)
    said = begin.earliest + part * doubt
    offset, spacing = offset_ms / 1e3, spacing_ms / 1e3
    runs = list(slot_runs(grant(count, offset, spacing), begin, 100.2))
    assert sum(run.count for run in runs) == count
    times = [
        (run.first + k * run.spacing, run.first + k * run.spacing + (run.slack or 0))
        for run in runs
        for k in range(run.count)
    ]
    for number, (first, last) in enumerate(times):
        slot = said + max(0.0, offset + number * spacing)
        assert slot - SURE <= first <= last <= slot + SLOT_SECONDS + SURE


def test_without_a_rate_slots_wait_for_nothing() -> None:
    (run,) = slot_runs(grant(7, 0.0, 0.0, paced=False), Moment(100.3, 100.4), 100.2)
    assert (run.first, run.count, run.slack) == (100.2, 7, None)
