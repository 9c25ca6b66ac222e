"""Limits in segments, calendar quotas, ramps, and what an operator sets above them."""

from __future__ import annotations

import pytest

from dispatcher.limits import CalendarQuota, Limit
from tests.store.cell import OWN, Cell, entries_of, slots_of

DAY_US = 86_400_000_000


async def test_a_message_counts_its_segments(cell: Cell) -> None:
    await cell.limit(OWN, rate=100, segments=True)
    await cell.enqueue(4, size=2, cost=3)
    await cell.enqueue(30, size=10, cost=1)
    claim = await cell.claim("w1")
    assert [(grant.cost, grant.count) for grant in claim.grants] == [(3, 4), (1, 3)]
    long, short = claim.grants
    assert (long.spacing_us, short.spacing_us) == (30_000, 10_000)
    assert short.offset_us == pytest.approx(long.offset_us + 4 * 30_000, abs=1)
    await cell.check()


async def test_a_message_longer_than_a_grant_goes_nevertheless(cell: Cell) -> None:
    await cell.limit(OWN, rate=10, segments=True)
    await cell.enqueue(3, size=1, cost=7)
    assert slots_of(await cell.claim("w1")) == 1
    assert slots_of(await cell.claim("w1")) == 0
    await cell.pass_time(0.7)
    assert slots_of(await cell.claim("w1")) == 1


async def test_where_messages_are_counted_segments_cost_nothing(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(30, size=1, cost=3)
    assert slots_of(await cell.claim("w1")) == 15


async def quota(cell: Cell, count: int, ends_in: float, rate: float = 0) -> int:
    now_us = (await cell.queue.heartbeat("w1")).now_us
    ends = now_us + int(ends_in * 1e6)
    found = CalendarQuota(count, "day", (ends, ends + DAY_US))
    interval = 1e6 / rate if rate else 0.0
    await cell.queue.write_limits([Limit(OWN, interval, quotas=(found,))])
    return ends


async def test_a_lane_sleeps_when_its_quota_is_used_up(cell: Cell) -> None:
    await quota(cell, 25, ends_in=3600)
    await cell.enqueue(60, size=10)
    assert slots_of(await cell.claim("w1")) == 25
    claim = await cell.claim("w1")
    assert claim.grants == []
    assert 3_500_000_000 < claim.next_us <= 3_600_000_000 + 1_000_000
    assert (await cell.limit_state())["used:day"] == 25


async def test_it_begins_anew_with_the_next_day(cell: Cell) -> None:
    ends = await quota(cell, 25, ends_in=0.15)
    await cell.enqueue(60, size=5)
    assert slots_of(await cell.claim("w1")) == 25
    while (await cell.queue.heartbeat("w1")).now_us < ends + 1000:
        pass
    claim = await cell.claim("w1")
    assert (slots_of(claim), claim.skipped) == (25, [OWN])  # its next day is to be written
    assert (await cell.limit_state())["ends:day"] == ends + DAY_US


async def test_a_clock_that_is_ahead_does_not_begin_the_next_day(cell: Cell) -> None:
    ends = await quota(cell, 25, ends_in=3600)
    await cell.enqueue(25)
    assert slots_of(await cell.claim("w1")) == 25
    later = CalendarQuota(25, "day", (ends + DAY_US, ends + 2 * DAY_US))
    await cell.queue.write_limits([Limit(OWN, quotas=(later,))])
    state = await cell.limit_state()
    assert (state["used:day"], state["ends:day"]) == (25, ends)


async def test_a_quota_that_is_gone_from_the_configuration_holds_nothing(cell: Cell) -> None:
    await quota(cell, 5, ends_in=3600)
    await cell.enqueue(20, size=5)
    assert slots_of(await cell.claim("w1")) == 5
    await cell.limit(OWN)
    assert slots_of(await cell.claim("w1")) == 15


async def test_a_ramp_rises_day_by_day(cell: Cell) -> None:
    ramp = (100_000.0, 50_000.0)
    await cell.queue.write_limits([Limit(OWN, 10_000.0, ramp=ramp)])
    await cell.enqueue(100, size=1)
    for day, spacing in ((0, 100_000), (1, 50_000), (2, 10_000), (9, 10_000)):
        born = (await cell.queue.heartbeat("w1")).now_us - day * DAY_US - 1000
        await cell.client.hset(cell.keys.name("limit", OWN), "born", born)
        await cell.pass_time(1)
        (grant,) = (await cell.claim("w1")).grants
        assert grant.spacing_us == spacing


async def test_what_an_operator_has_set_holds_until_its_end(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(100, size=1)
    now_us = (await cell.queue.heartbeat("w1")).now_us
    hash_ = cell.keys.name("limit", OWN)
    for until, spacing in ((0, 500_000), (now_us + 60_000_000, 500_000), (now_us - 1, 10_000)):
        await cell.client.hset(hash_, mapping={"set": "500000", "set_until": until})
        await cell.pass_time(1)
        (grant,) = (await cell.claim("w1")).grants
        assert grant.spacing_us == spacing


async def test_a_lane_wakes_when_a_slow_rate_ends_by_itself(cell: Cell) -> None:
    await cell.limit("carrier:a", rate=100)
    await cell.enqueue(100, limits=(OWN, "carrier:a"), size=1)
    until = (await cell.queue.heartbeat("w1")).now_us + 2_000_000
    hash_ = cell.keys.name("limit", "carrier:a")
    await cell.client.hset(hash_, mapping={"set": "3600000000", "set_until": until})
    assert slots_of(await cell.claim("w1")) == 1
    claim = await cell.claim("w1")
    assert (claim.grants, claim.next_us < 2_000_000) == ([], True)


async def test_a_changed_limit_is_announced_by_name(cell: Cell) -> None:
    pubsub = cell.client.pubsub()
    await pubsub.subscribe(cell.keys.name("control"))
    await cell.limit(OWN, rate=100)
    await cell.limit("carrier:a", rate=10)
    await cell.limit(OWN, rate=50)
    await cell.limit(OWN, rate=50)
    heard = []
    while (message := await pubsub.get_message(timeout=0.3)) is not None:
        if message["type"] == "message":
            heard.append(message["data"])
    await pubsub.aclose()
    assert heard == [OWN.encode(), OWN.encode()]
    await cell.enqueue(1)
    assert len(entries_of(await cell.claim("w1"))) == 1
