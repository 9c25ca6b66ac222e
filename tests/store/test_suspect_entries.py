"""What several workers died with: a worker holds one such entry at a time."""

from __future__ import annotations

from collections import Counter

from dispatcher.store.claims import SUSPECT
from dispatcher.store.queue import Move, Settlement
from tests.store.cell import LANE, Cell, body_of, entries_of, rows_of, settlement


async def die_with_all(cell: Cell, times: int) -> None:
    """So many workers claim all there is and die."""
    for number in range(times):
        name = f"dead-{number}"
        await cell.worker(name)
        await cell.claim(name)
        beat = (await cell.queue.heartbeat("w1")).beats[name]
        await cell.queue.reclaim_dead(name, beat, 0.0)


async def test_one_suspect_at_a_time(cell: Cell) -> None:
    await cell.enqueue(30, size=10)
    await die_with_all(cell, SUSPECT)
    (first,) = await cell.claim_entries("w1")
    assert first.reclaims == SUSPECT
    assert Counter((await cell.check()).values()) == {"held:w1": 10, "scheduled": 20}
    await cell.pass_time(1)
    assert await cell.claim_entries("w1") == []
    await cell.pass_time(1)
    (second,) = await cell.claim_entries("w2")  # each worker may try one
    assert (second.reclaims, second.ambiguous) == (SUSPECT, 10)
    await cell.finish("w1", [first])
    await cell.pass_time(1)
    (third,) = await cell.claim_entries("w1")
    assert {row.index for entry in (first, second, third) for row in rows_of(entry)} == {*range(30)}
    await cell.finish("w1", [third])
    await cell.finish("w2", [second])
    assert Counter((await cell.check()).values()) == {"sent": 30}


async def test_others_go_on_beside_a_suspect(cell: Cell) -> None:
    await cell.enqueue(10)
    await die_with_all(cell, SUSPECT)
    await cell.enqueue(20, size=10)
    claimed = await cell.claim_entries("w1")
    assert sorted(entry.reclaims for entry in claimed) == [0, 0, SUSPECT]


async def test_entries_that_fewer_died_with_come_together(cell: Cell) -> None:
    await cell.enqueue(30, size=10)
    await die_with_all(cell, SUSPECT - 1)
    assert [entry.reclaims for entry in await cell.claim_entries("w1")] == [SUSPECT - 1] * 3


async def test_a_dead_worker_with_its_suspect_frees_the_next_one(cell: Cell) -> None:
    await cell.enqueue(20, size=10)
    await die_with_all(cell, SUSPECT)
    (tried,) = await cell.claim_entries("w1")
    beat = (await cell.queue.heartbeat("w2")).beats["w1"]
    await cell.queue.reclaim_dead("w1", beat, 0.0)
    await cell.pass_time(1)
    (other,) = await cell.claim_entries("w2")
    found = {other.id: other.reclaims}
    await cell.finish("w2", [other])
    await cell.pass_time(1)
    (again,) = await cell.claim_entries("w2")
    found[again.id] = again.reclaims
    assert sorted(found.values()) == [SUSPECT, SUSPECT + 1]
    assert {row.index for row in rows_of(tried)} in (
        {row.index for row in rows_of(entry)}
        for entry in (again, other)
        if entry.reclaims > SUSPECT
    )


async def test_reclaims_outlast_a_time_among_the_scheduled(cell: Cell) -> None:
    await cell.enqueue(2)
    (entry,) = entries_of(await cell.claim("w1"))
    body = body_of(entry.batch, rows_of(entry))
    move = Move(3_600_000_000, LANE, "normal", 2, 1, 0, body, 1, SUSPECT)
    whole = Settlement(entry.queue, entry.id, entry.batch, True, [], [move], {})
    assert await cell.settle("w1", whole) == [True]
    await cell.pass_time(7200)
    (again,) = await cell.claim_entries("w1")
    assert (again.ambiguous, again.reclaims, again.slots) == (1, SUSPECT, 1)
    assert await cell.settle("w1", settlement(again)) == [True]
