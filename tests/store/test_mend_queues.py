"""Queues that people or servers brought out of order are mended; the others stay as they are."""

from __future__ import annotations

from collections import Counter

import pytest

from dispatcher.store.tidying import Mended, Tidying
from tests.store.cell import LANE, OWN, Cell, entries_of, rows_of

NORMAL = f"{LANE}:normal:default"
BACK = f"{LANE}:normal:~"


async def mend(cell: Cell, queue: str = NORMAL, most: int = 200) -> Mended:
    return await Tidying(cell.client, cell.keys).mend(queue, most)


async def lose_worker(cell: Cell, worker: str = "w1", *, held: bool = True) -> None:
    """The worker is gone from the store, with or without what it holds."""
    await cell.client.zrem(cell.keys.name("workers"), worker)
    if held:
        await cell.client.delete(cell.keys.name("held", worker))


async def consumers(cell: Cell, queue: str = NORMAL) -> set[str]:
    found = await cell.client.xinfo_consumers(cell.keys.name("queue", queue), "workers")
    return {item["name"].decode() for item in found}


async def test_entries_of_nobody_go_back(cell: Cell) -> None:
    await cell.limit(rate=100)
    await cell.enqueue(40, size=20)
    (claimed,) = await cell.claim_entries("w1")
    await lose_worker(cell)
    await mend(cell)
    assert Counter((await cell.check()).values()) == {"queue": 40}
    assert await consumers(cell) == set()
    await cell.pass_time(1)
    again, _ = await cell.claim_entries("w2", 40)
    assert (again.queue, again.ambiguous, again.reclaims) == (BACK, 20, 1)
    assert rows_of(again) == rows_of(claimed)


async def test_what_held_still_says_of_them_is_believed(cell: Cell) -> None:
    await cell.limit(rate=100)
    await cell.enqueue(40, size=40)
    await cell.claim("w1")
    await lose_worker(cell, held=False)
    await mend(cell)
    await cell.pass_time(1)
    (again,) = await cell.claim_entries("w2", 40)
    assert again.ambiguous == 15
    assert await cell.held("w1") == {}


async def test_many_go_back_some_at_a_time(store_cell: Cell) -> None:
    await store_cell.enqueue(250, size=1)
    await store_cell.claim("w1")
    await lose_worker(store_cell)
    assert await mend(store_cell, most=100) == Mended(100, 100, 0, False, True)
    assert await consumers(store_cell) == {"w1"}
    assert await mend(store_cell, most=100) == Mended(100, 100, 0, False, True)
    assert await mend(store_cell, most=100) == Mended(50, 50, 0, False, False)
    assert Counter((await store_cell.check()).values()) == {"queue": 250}


async def test_only_consumers_of_workers_that_are_gone_leave(cell: Cell) -> None:
    await cell.worker("w3")
    await cell.enqueue(30, size=10)
    (first,) = await cell.claim_entries("w1", 10)
    await cell.finish("w1", [first])
    (second,) = await cell.claim_entries("w2", 10)
    assert await consumers(cell) == {"w1", "w2"}
    await cell.queue.leave("w1")
    await mend(cell)
    assert await consumers(cell) == {"w2"}
    assert Counter((await cell.check()).values()) == {"sent": 10, "held:w2": 10, "queue": 10}
    assert await cell.finish("w2", [second]) == [True]


async def test_a_destroyed_group_is_made_anew(cell: Cell) -> None:
    await cell.enqueue(30, size=10)
    await cell.claim_entries("w1", 20)
    await cell.client.xgroup_destroy(cell.keys.name("queue", NORMAL), "workers")
    await cell.client.delete(cell.keys.name("held", "w1"))
    await cell.client.hset(cell.keys.name("lane", LANE), "depth:normal", 0)
    await cell.client.zrem(cell.keys.name("lanes", "p"), LANE)
    await mend(cell)
    assert Counter((await cell.check()).values()) == {"queue": 30}
    assert sum(entry.count for entry in await cell.claim_entries("w2")) == 30


async def test_of_a_destroyed_group_workers_keep_what_they_hold(cell: Cell) -> None:
    await cell.enqueue(30, size=10)
    held = await cell.claim_entries("w1", 10)
    await cell.client.xgroup_destroy(cell.keys.name("queue", NORMAL), "workers")
    await mend(cell)
    assert Counter((await cell.check()).values()) == {"held:w1": 10, "queue": 20}
    others = await cell.claim_entries("w2")
    assert not {*map(str, others)} & {*map(str, held)}
    assert sum(entry.count for entry in others) == 20
    assert await cell.finish("w1", held) == [True]


@pytest.mark.parametrize("missing", ["lanes", "fair", "depth"])
async def test_a_queue_is_found_again(cell: Cell, missing: str) -> None:
    await cell.enqueue(5)
    lane = cell.keys.name("lane", LANE)
    if missing == "lanes":
        await cell.client.zrem(cell.keys.name("lanes", "p"), LANE)
        await cell.client.delete(cell.keys.name("bell", "p"))
    elif missing == "fair":
        await cell.client.zrem(cell.keys.name("fair", f"{LANE}:normal"), "default")
    else:
        await cell.client.hdel(lane, "depth:normal")
    await mend(cell)
    assert await cell.client.llen(cell.keys.name("bell", "p")) == 1
    assert Counter((await cell.check()).values()) == {"queue": 5}
    assert [entry.count for entry in await cell.claim_entries("w2")] == [5]


async def test_what_was_put_back_is_found_again(cell: Cell) -> None:
    await cell.enqueue(5)
    await cell.claim("w1")
    await cell.queue.leave("w1")
    lane = cell.keys.name("lane", LANE)
    await cell.client.hset(lane, "back:normal", 0)
    await mend(cell, BACK)
    assert Counter((await cell.check()).values()) == {"queue": 5}
    assert [entry.count for entry in await cell.claim_entries("w2")] == [5]


async def test_an_entry_pending_for_nobody_goes_back(cell: Cell) -> None:
    await cell.enqueue(30, size=10)
    first, second = await cell.claim_entries("w1", 20)
    await cell.client.xack(cell.keys.name("queue", NORMAL), "workers", first.id)
    await mend(cell)
    places = await cell.check()
    assert Counter(places.values()) == {"queue": 20, "held:w1": 10}
    assert places[rows_of(second)[0].index] == "held:w1"


async def test_a_pending_entry_that_was_deleted_is_let_go(cell: Cell) -> None:
    await cell.enqueue(20, size=10)
    (claimed,) = await cell.claim_entries("w1", 10)
    await cell.client.xdel(cell.keys.name("queue", NORMAL), claimed.id)
    await lose_worker(cell)
    await mend(cell)
    assert await consumers(cell) == set()
    summary = await cell.client.xpending(cell.keys.name("queue", NORMAL), "workers")
    assert summary["pending"] == 0


async def test_a_queue_in_order_stays_as_it_is(cell: Cell) -> None:
    await cell.limit(rate=100)
    await cell.enqueue(40, size=10)
    claim = await cell.claim("w1")
    before = await snapshot(cell)
    assert await mend(cell) == Mended(0, 0, 0, False, False)
    assert await snapshot(cell) == before
    assert await cell.finish("w1", entries_of(claim)[:1]) == [True]


async def test_a_long_backlog_is_not_counted(store_cell: Cell) -> None:
    """To count it would be to read it; a counter that is too low for certain is raised."""
    await store_cell.limit(OWN)
    await store_cell.enqueue(300, size=1)
    lane = store_cell.keys.name("lane", LANE)
    await store_cell.client.hset(lane, "depth:normal", 290)
    assert not (await mend(store_cell)).wrong
    await store_cell.client.hset(lane, "depth:normal", 0)
    assert (await mend(store_cell)).wrong
    assert int((await store_cell.lane())["depth:normal"]) == 300


async def snapshot(cell: Cell) -> dict[bytes, object]:
    """Every key but those of the janitor, as the server keeps it."""
    names = [name async for name in cell.client.scan_iter(f"{cell.keys.prefix}:*", 1000)]
    return {name: await cell.client.dump(name) for name in names if b":janitor:" not in name}
