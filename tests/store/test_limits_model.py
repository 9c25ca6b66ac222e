"""Limits: what claims may grant, beside a small model of each limit; pauses, lost state."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.limits import Limit
from dispatcher.store.claims import Claim
from dispatcher.store.keys import Keys
from dispatcher.store.opening import Store
from dispatcher.store.queue import NewLane, Queue
from tests.store.cell import LANE, OWN, Cell, slot_times, slots_of

REFILL, GRANT = 0.05, 0.1
"""Seconds: a lane with less than the first booked is filled up to their sum."""
SHARED = 0.2
"""Seconds by which slots of a limit may bunch where slower limits pace some of its lanes."""


def worst_burst(times: Iterable[float], rate: float) -> float:
    """The level of a bucket that drains at `rate` and takes 1 at each of these times, at most."""
    level = worst = last = 0.0
    for time in sorted(times):
        level = max(0.0, level - rate * (time - last)) + 1
        last, worst = time, max(worst, level)
    return worst


class Bucket:
    """The model of one limit: the time up to which it is booked, on a clock that can be moved."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self.interval = 1 / rate
        self.booked = 0.0

    def base(self, now: float) -> float:
        return max(self.booked, now - (self.burst - 1) * self.interval)

    def take(self, now: float, count: int, start: float = 0.0) -> None:
        self.booked = max(self.base(now), start) + count * self.interval


def fresh(store: Store) -> Cell:
    """A cell of its own for one example."""
    keys = Keys(f"{store.keys.prefix}.{uuid4().hex[:8]}")
    return Cell(store._replace(keys=keys, queue=Queue(store.client, keys)))


LIMIT = st.tuples(st.integers(2, 400), st.integers(1, 20))
TURNS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 150)), min_size=1, max_size=12)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(limits=st.tuples(LIMIT, LIMIT, LIMIT), turns=TURNS)
async def test_grants_keep_every_limit_of_their_lane(
    store: Store, limits: tuple[tuple[int, int], ...], turns: list[tuple[int, int]]
) -> None:
    cell = fresh(store)
    buckets = {
        name: Bucket(*limit)
        for name, limit in zip((OWN, "carrier:a", "carrier:b"), limits, strict=True)
    }
    for name, bucket in buckets.items():
        await cell.limit(name, bucket.rate, bucket.burst)
    await cell.worker("w1")
    for carrier in "ab":
        names = (OWN, f"carrier:{carrier}")
        await cell.enqueue(1000, f"p/sms/{carrier}", limits=names, size=7)
    moved = 0.0
    used: dict[str, list[float]] = {name: [] for name in buckets}
    for wait_ms, room in turns:
        await cell.pass_time(wait_ms / 1000)
        moved += wait_ms / 1000
        claim = await cell.claim("w1", room)
        assert slots_of(claim) <= room
        follow(claim, buckets, used, moved)
    for name, bucket in buckets.items():
        assert worst_burst(used[name], bucket.rate) <= bucket.burst + bucket.rate * SHARED + 0.01


def follow(
    claim: Claim, buckets: dict[str, Bucket], used: dict[str, list[float]], moved: float
) -> None:
    """Every grant starts where the model says and is charged to all limits of its lane."""
    now = claim.now_us / 1e6 + moved
    for grant in claim.grants:
        names = (OWN, f"carrier:{grant.lane[-1]}")
        base = max(buckets[name].base(now) for name in names)
        assert grant.offset_us / 1e6 == pytest.approx(base - now, abs=2e-3)
        spacing = grant.spacing_us / 1e6
        assert any(spacing == pytest.approx(buckets[name].interval) for name in names)
        most = max(1, (SHARED - (base - now)) / spacing + 1e-2)
        assert grant.count <= most
        for name in names:
            bucket = buckets[name]
            if bucket.interval > spacing + 1e-7:  # a burst makes up for its interval
                assert bucket.base(now) + (grant.count - 1) * bucket.interval <= (
                    base + (grant.count - 1) * spacing + 2e-3
                )
            pacing = bucket.burst == 1 and bucket.interval == pytest.approx(spacing)
            bucket.take(now, grant.count, base if pacing else 0.0)
            used[name] += [time + moved for time in slot_times(claim, grant)]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(limit=LIMIT, turns=TURNS)
async def test_one_limit_alone_is_kept_exactly(
    store: Store, limit: tuple[int, int], turns: list[tuple[int, int]]
) -> None:
    cell, (rate, burst) = fresh(store), limit
    await cell.limit(OWN, rate, burst)
    await cell.worker("w1")
    for carrier in "abc":
        await cell.enqueue(500, f"p/sms/{carrier}", size=9)
    moved, used = 0.0, []
    for wait_ms, room in turns:
        await cell.pass_time(wait_ms / 1000)
        moved += wait_ms / 1000
        claim = await cell.claim("w1", room)
        for grant in claim.grants:
            used += [time + moved for time in slot_times(claim, grant)]
    assert worst_burst(used, rate) <= burst + 0.01


async def test_a_backlog_uses_the_whole_rate(cell: Cell) -> None:
    await cell.limit(OWN, rate=200)
    await cell.limit("carrier:a", rate=50)
    await cell.enqueue(2000, limits=(OWN, "carrier:a"), size=5)
    await cell.enqueue(2000, "p/sms/b", size=20)
    moved, claims = 0.0, []
    while moved < 5:
        claims.append(await cell.claim("w1"))
        wait = max(claims[-1].next_us / 1e6, 0.01)
        await cell.pass_time(wait)
        moved += wait
    seconds = moved + (claims[-1].now_us - claims[0].now_us) / 1e6
    grants = [grant for claim in claims for grant in claim.grants]
    total = sum(grant.count for grant in grants)
    own = sum(grant.count for grant in grants if grant.lane == LANE)
    assert 0.99 * 200 * seconds <= total <= 200 * (seconds + REFILL + GRANT)
    assert 0 < own <= 50 * (seconds + SHARED) + 1
    await cell.check()


async def test_lanes_under_one_limit_take_turns(cell: Cell) -> None:
    await cell.limit(OWN, rate=20)
    for carrier in "abcde":
        await cell.enqueue(100, f"p/sms/{carrier}", size=1)
    seen: dict[str, int] = {}
    for _ in range(100):
        for grant in (await cell.claim("w1")).grants:
            seen[grant.lane] = seen.get(grant.lane, 0) + grant.count
        await cell.pass_time(0.1)
    assert len(seen) == 5
    assert max(seen.values()) <= 1.2 * min(seen.values())


async def test_urgent_messages_go_however_far_a_lane_is_booked(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(100, size=1)
    assert slots_of(await cell.claim("w1")) == 15
    assert (await cell.claim("w1")).grants == []
    await cell.enqueue(3, class_="urgent")
    (grant,) = (await cell.claim("w1")).grants
    assert grant.entries[0].queue == f"{LANE}:urgent:default"
    assert grant.offset_us > 100_000


async def test_a_burst_may_go_at_once_after_idling(cell: Cell) -> None:
    await cell.limit(OWN, rate=10, burst=5)
    await cell.enqueue(100, size=1)
    claim = await cell.claim("w1")
    times = [
        time - claim.now_us / 1e6 for grant in claim.grants for time in slot_times(claim, grant)
    ]
    assert [round(time, 2) for time in times] == [0, 0, 0, 0, 0]


async def test_a_burst_goes_at_the_pace_of_the_other_limits(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.limit("carrier:a", rate=10, burst=8)
    await cell.enqueue(100, limits=(OWN, "carrier:a"), size=3)
    found: list[float] = []
    moved = 0.0
    while moved < 1:
        claim = await cell.claim("w1")
        found += [t + moved for grant in claim.grants for t in slot_times(claim, grant)]
        await cell.pass_time(0.1)
        moved += 0.1
    since = [round(time - found[0], 2) for time in found]
    assert since[:8] == pytest.approx([n / 100 for n in range(8)], abs=0.011)
    assert since[8] == pytest.approx(0.1, abs=0.02)
    assert worst_burst(found, 10) <= 8 + 10 * SHARED


async def test_a_burst_needs_no_rate_of_its_provider(cell: Cell) -> None:
    await cell.limit("carrier:a", rate=10, burst=5)
    await cell.enqueue(100, limits=(OWN, "carrier:a"), size=1)
    claim = await cell.claim("w1")
    assert all(grant.paced for grant in claim.grants)
    times = [t - claim.now_us / 1e6 for grant in claim.grants for t in slot_times(claim, grant)]
    assert [round(time, 3) for time in times] == [0, 0, 0, 0, 0]


async def test_throttling_pauses_and_slows_once_per_event(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(500, size=1)
    assert slots_of(await cell.claim("w1")) == 15
    await cell.settle("w1", throttled=[(OWN, 2_000_000)])
    await cell.settle("w1", throttled=[(OWN, 1_000_000)])
    state = await cell.limit_state()
    assert state["factor"] == pytest.approx(0.7)
    await cell.pass_time(1.5)
    claim = await cell.claim("w1")
    assert claim.grants == []
    assert 300_000 < claim.next_us < 550_000
    await cell.pass_time(0.6)
    (grant,) = (await cell.claim("w1")).grants
    assert grant.spacing_us == pytest.approx(10_000 / (0.7 + 0.05 * 2.1), rel=0.01)
    await cell.pass_time(5)
    (grant,) = (await cell.claim("w1")).grants
    assert grant.spacing_us == pytest.approx(10_000)


async def test_a_second_event_slows_further(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.settle("w1", throttled=[(OWN, 1_000_000)])
    await cell.pass_time(2)
    await cell.settle("w1", throttled=[(OWN, 1_000_000)])
    assert (await cell.limit_state())["factor"] == pytest.approx(0.8 * 0.7, rel=0.02)


async def test_a_pause_holds_a_provider_without_a_rate(cell: Cell) -> None:
    await cell.enqueue(5)
    await cell.settle("w1", throttled=[(OWN, 3_000_000)])
    claim = await cell.claim("w1")
    assert (claim.grants, claim.next_us > 2_500_000) == ([], True)
    await cell.pass_time(3)
    assert slots_of(await cell.claim("w1")) == 5


async def test_a_lost_limit_stops_its_lanes_until_it_is_written_back(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(20, size=1)
    await cell.client.delete(cell.keys.name("limit", OWN))
    claim = await cell.claim("w1")
    assert (claim.skipped, claim.grants) == ([OWN, f"lane:{LANE}"], [])
    await cell.limit(OWN, rate=100)
    await cell.pass_time(1)
    (grant,) = (await cell.claim("w1")).grants
    assert grant.spacing_us == 10_000


async def test_a_lost_state_restarts_as_fully_booked(cell: Cell) -> None:
    await cell.limit(OWN, rate=10)
    await cell.client.hdel(cell.keys.name("limit", OWN), "tat")
    await cell.limit(OWN, rate=10)
    now_us = (await cell.queue.heartbeat("w1")).now_us
    booked = (await cell.limit_state())["tat"] - now_us
    assert 200_000 < booked <= 250_000


async def test_a_lane_without_its_limits_is_named_and_waits(cell: Cell) -> None:
    await cell.enqueue(2)
    await cell.client.hdel(cell.keys.name("lane", LANE), "limits")
    claim = await cell.claim("w1")
    assert (claim.skipped, claim.grants) == ([f"lane:{LANE}"], [])
    await cell.queue.write_limits([], [NewLane(LANE, (OWN,))])
    assert slots_of(await cell.claim("w1")) == 2
    await cell.check()


async def test_a_clock_that_was_ahead_stops_a_limit_for_a_moment_only(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(20, size=1)
    ahead = (await cell.queue.heartbeat("w1")).now_us + 3_600_000_000
    await cell.client.hset(cell.keys.name("limit", OWN), "tat", ahead)
    assert (await cell.claim("w1")).next_us < 1_700_000


async def test_a_changed_limit_is_a_change_and_the_same_is_none(cell: Cell) -> None:
    before = await cell.queue.write_limits([Limit(OWN, 1000.0)])
    assert await cell.queue.write_limits([Limit(OWN, 1000.0)]) == before
    assert await cell.queue.write_limits([Limit(OWN, 2000.0)]) == before + 1
