"""Enqueue: what is accepted, at most once, and what lane and bell learn of it."""

from __future__ import annotations

import pytest

from dispatcher.errors import StoreFull
from tests.store.cell import LANE, OWN, Cell


async def lane_times(cell: Cell) -> dict[str, int]:
    found = await cell.client.zrange(cell.keys.name("lanes", "p"), 0, -1, withscores=True)
    return {lane.decode(): int(time) for lane, time in found}


async def bells(cell: Cell) -> int:
    return int(await cell.client.llen(cell.keys.name("bell", "p")))


async def test_a_part_is_accepted_once(cell: Cell) -> None:
    await cell.enqueue(700)
    answer = await cell.enqueue(700, first=0)
    assert (answer.messages, answer.repeated, answer.check) == (0, True, "check-0")
    await cell.enqueue(5)
    places = await cell.check()
    assert list(places.values()) == ["queue"] * 705
    assert await cell.store.inspector.parts(cell.batch) == ({0: "check-0", 700: "check-700"}, "")


async def test_what_does_not_fit_is_refused_whole(cell: Cell) -> None:
    await cell.enqueue(6, max_queued=10)
    with pytest.raises(StoreFull, match="max_queued = 10 reached: 6 queued"):
        await cell.enqueue(5, max_queued=10)
    cell.accepted = 6
    assert list((await cell.check()).values()) == ["queue"] * 6
    await cell.finish("w1", await cell.claim_entries("w1"))
    await cell.enqueue(5, max_queued=10)
    assert list((await cell.check()).values()) == ["sent"] * 6 + ["queue"] * 5


async def test_a_later_time_waits_in_scheduled(cell: Cell) -> None:
    now_us = (await cell.queue.heartbeat("w1")).now_us
    await cell.enqueue(3, due_us=now_us + 60_000_000)
    assert list((await cell.check()).values()) == ["scheduled"] * 3
    claim = await cell.claim("w1")
    assert claim.grants == []
    assert 59_000_000 < claim.next_us <= 60_000_000
    await cell.pass_time(60)
    assert [entry.count for entry in await cell.claim_entries("w1")] == [3]
    assert list((await cell.check()).values()) == ["held:w1"] * 3


async def test_a_new_lane_is_due_and_rings_once(cell: Cell) -> None:
    await cell.enqueue(1)
    assert list(await lane_times(cell)) == [LANE]
    assert await bells(cell) == 1
    await cell.enqueue(1, "p/sms/b")
    assert await bells(cell) == 1


async def test_only_urgent_messages_pull_a_lane_forward(cell: Cell) -> None:
    later = (await cell.queue.heartbeat("w1")).now_us + 60_000_000
    await cell.client.zadd(cell.keys.name("lanes", "p"), {LANE: later})
    await cell.enqueue(1, class_="bulk")
    assert await lane_times(cell) == {LANE: later}
    assert await bells(cell) == 0
    await cell.enqueue(1, class_="urgent")
    assert (await lane_times(cell))[LANE] < later
    assert await bells(cell) == 1


async def test_a_finished_batch_is_forgotten_later_unless_it_goes_on(cell: Cell) -> None:
    name = cell.keys.name("batch", cell.batch)
    await cell.enqueue(2)
    await cell.finish("w1", await cell.claim_entries("w1"))
    assert 0 < await cell.client.ttl(name) <= 3600
    await cell.enqueue(1)
    assert await cell.client.ttl(name) == -1


async def test_a_lane_keeps_the_limits_it_was_last_given(cell: Cell) -> None:
    await cell.enqueue(1, limits=(OWN, "carrier:a"))
    await cell.enqueue(1, limits=(OWN,))
    assert (await cell.lane())["limits"] == OWN


async def test_a_batch_knows_some_of_its_lanes_and_when_it_is_due(cell: Cell) -> None:
    for number in range(9):
        for _ in range(2):
            await cell.enqueue(1, f"p/sms/c{number}")
    view = await cell.store.inspector.batch(cell.batch)
    assert view is not None
    assert view.lanes == (*(f"p/sms/c{number}" for number in range(8)), "*")
    assert view.due_us == 0
    for due in (5_000_000_000_000_000, 4_000_000_000_000_000):
        await cell.enqueue(1, due_us=due)
    view = await cell.store.inspector.batch(cell.batch)
    assert view is not None
    assert (len(view.lanes), view.due_us) == (9, 5_000_000_000_000_000)
