"""Reclaim and heartbeat: what a worker held goes back, once."""

from __future__ import annotations

from collections import Counter

import pytest

from dispatcher.store.queue import WorkerLost
from tests.store.cell import LANE, OWN, Cell, entries_of, rows_of, settlement, slots_of


async def beat_of(cell: Cell, worker: str) -> str:
    return (await cell.queue.heartbeat("w2")).beats[worker]


async def test_a_dead_worker_gives_back_what_it_held(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(40, size=20)
    (entry,) = await cell.claim_entries("w1")
    assert entry.slots == 15
    await cell.queue.reclaim_dead("w1", await beat_of(cell, "w1"), 0.0)
    assert Counter((await cell.check()).values()) == {"queue": 40}
    assert await cell.held("w1") == {}
    assert "w1" not in (await cell.queue.heartbeat("w2")).beats
    await cell.pass_time(1)
    again, _ = await cell.claim_entries("w2", 40)
    assert (again.queue, again.ambiguous, again.reclaims) == (f"{LANE}:normal:~", 15, 1)
    assert rows_of(again) == rows_of(entry)


async def test_a_worker_that_beat_again_is_left_alone(cell: Cell) -> None:
    await cell.enqueue(2)
    await cell.claim("w1")
    seen = await beat_of(cell, "w1")
    assert await cell.queue.reclaim_dead("w1", seen, 60.0) is None
    await cell.queue.heartbeat("w1")
    assert await cell.queue.reclaim_dead("w1", seen, 0.0) is None
    assert Counter((await cell.check()).values()) == {"held:w1": 2}


async def test_what_was_settled_does_not_come_back(cell: Cell) -> None:
    await cell.enqueue(20, size=10)
    one, two = await cell.claim_entries("w1")
    await cell.settle("w1", settlement(one), settlement(two, rows=rows_of(two)[:4], done=False))
    await cell.queue.reclaim_dead("w1", await beat_of(cell, "w1"), 0.0)
    assert Counter((await cell.check()).values()) == {"sent": 14, "queue": 6}
    (again,) = await cell.claim_entries("w2")
    assert again.ambiguous == 10


async def test_leaving_gives_back_as_unsent(cell: Cell) -> None:
    await cell.enqueue(3)
    await cell.claim("w1")
    await cell.queue.leave("w1")
    assert Counter((await cell.check()).values()) == {"queue": 3}
    (again,) = await cell.claim_entries("w2")
    assert (again.ambiguous, again.reclaims) == (0, 0)
    with pytest.raises(WorkerLost):
        await cell.queue.heartbeat("w1")


async def test_unseen_entries_of_one_provider_only(cell: Cell) -> None:
    await cell.limit("provider:q")
    await cell.enqueue(3)
    await cell.enqueue(3, "q/sms/a", limits=("provider:q",))
    await cell.claim("w1")
    await cell.claim("w1", provider="q")
    await cell.queue.reclaim_unseen("w1", "p", 0, [])
    assert list((await cell.check()).values()) == ["queue"] * 3 + ["held:w1"] * 3
    assert "w1" in (await cell.queue.heartbeat("w2")).beats


async def test_a_worker_that_wakes_up_between_two_of_them_is_lost(store_cell: Cell) -> None:
    """Part of what it held is with others by then."""
    cell = store_cell
    await cell.enqueue(600, size=1)
    entries = await cell.claim_entries("w1")
    name, beat = cell.keys.name("held", "w1"), await beat_of(cell, "w1")
    state, moved, _ = await cell.queue._reclaim(name, "w1", "dead", 1, beat)
    assert (state, moved) == (b"more", 500)
    for call in (
        cell.queue.heartbeat("w1"),
        cell.claim("w1"),
        cell.finish("w1", entries[-1:]),
    ):
        with pytest.raises(WorkerLost):
            await call
    assert await cell.queue.reclaim_dead("w1", await beat_of(cell, "w1"), 60.0) == 100
    assert Counter((await cell.check()).values()) == {"queue": 600}
    assert "w1" not in (await cell.queue.heartbeat("w2")).beats


async def test_many_entries_go_back_in_several_calls(cell: Cell) -> None:
    await cell.enqueue(1200, size=1)
    await cell.claim("w1")
    assert Counter((await cell.check()).values()) == {"held:w1": 1200}
    await cell.queue.reclaim_dead("w1", await beat_of(cell, "w1"), 0.0)
    assert Counter((await cell.check()).values()) == {"queue": 1200}
    taken = [len(await cell.claim_entries("w2")) for _ in range(20)]
    assert (max(taken), sum(taken)) == (64, 1200)  # each needs a decision: some at a time


async def test_what_may_have_been_sent_adds_up_over_two_deaths(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(40, size=40)
    await cell.claim("w1")
    await cell.queue.reclaim_dead("w1", await beat_of(cell, "w1"), 0.0)
    await cell.pass_time(0.1)
    (again,) = await cell.claim_entries("w2")
    assert again.ambiguous == 15
    assert 10 <= again.slots < 25
    await cell.worker("w3")
    beats = (await cell.queue.heartbeat("w3")).beats
    await cell.queue.reclaim_dead("w2", beats["w2"], 0.0)
    await cell.pass_time(1)
    (third,) = await cell.claim_entries("w3")
    assert (third.ambiguous, third.reclaims) == (15 + again.slots, 2)


async def test_messages_that_only_need_a_decision_take_no_slot(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(10, size=10)
    await cell.claim("w1")
    await cell.queue.reclaim_dead("w1", await beat_of(cell, "w1"), 0.0)
    await cell.pass_time(1)
    await cell.enqueue(10, size=10)
    claim = await cell.claim("w2")
    assert [(one.ambiguous, one.slots) for one in entries_of(claim)] == [(10, 0), (None, 10)]
    assert slots_of(claim) == 10


async def test_a_heartbeat_names_all_workers_and_the_control_number(cell: Cell) -> None:
    beat = await cell.queue.heartbeat("w1")
    assert beat.beats.keys() == {"w1", "w2"}
    await cell.limit(OWN, rate=5)
    assert (await cell.queue.heartbeat("w1")).control == beat.control + 1


async def test_a_stranger_has_no_heartbeat(cell: Cell) -> None:
    with pytest.raises(WorkerLost):
        await cell.queue.heartbeat("stranger")


async def test_a_longer_lease_is_the_one_that_counts(cell: Cell) -> None:
    """Workers of two configurations on one store: the impatient one waits for the other's lease."""
    await cell.queue.heartbeat("slow", first=True, lease=60.0)
    await cell.enqueue(2)
    await cell.claim("slow")
    beat = await beat_of(cell, "slow")
    assert await cell.queue.reclaim_dead("slow", beat, 0.000001) is None
    assert Counter((await cell.check()).values()) == {"held:slow": 2}
    assert await cell.queue.reclaim_dead("slow", beat, 0.0) in (2, 0)  # its end was seen
    assert Counter((await cell.check()).values()) == {"queue": 2}
    assert await cell.held("slow") == {}
