"""What the store has forgotten is made anew from what it still knows, on the safe side."""

from __future__ import annotations

from benchmarks import faults
from dispatcher.limits import Limit
from tests.store.cell import OWN, Cell, rows_of


async def test_a_group_is_made_anew_as_it_was(cell: Cell) -> None:
    await cell.worker("w2")
    await cell.enqueue(50, size=10)
    first = await cell.claim_entries("w1", 10)
    second = await cell.claim_entries("w2", 15)
    assert await faults.destroy_groups(cell.client, cell.keys) == 1
    third = await cell.claim_entries("w1", 10_000)
    places = await cell.check()
    taken = [[row.index for entry in some for row in rows_of(entry)] for some in (first, second)]
    assert sorted(row.index for entry in third for row in rows_of(entry)) == list(range(30, 50))
    assert [index for index, place in places.items() if place == "held:w2"] == taken[1]
    assert await cell.finish("w2", second) == [True] * len(second)
    assert await cell.finish("w1", first + third) == [True] * len(first + third)
    assert set((await cell.check()).values()) == {"sent"}


async def test_what_nobody_holds_may_have_been_sent(cell: Cell) -> None:
    await cell.enqueue(30, size=10)
    (lost, kept) = await cell.claim_entries("w1", 20)
    await cell.client.hdel(cell.keys.name("held", "w1"), lost.field)
    await faults.destroy_groups(cell.client, cell.keys)
    (fresh,) = await cell.claim_entries("w1")
    (again,) = await cell.claim_entries("w1")
    assert (fresh.count, fresh.ambiguous, again.count, again.ambiguous) == (10, None, 10, 10)
    assert await cell.finish("w1", [kept, fresh, again]) == [True] * 3
    assert set((await cell.check()).values()) == {"sent"}


async def test_limits_of_an_emptied_store_begin_as_if_booked(cell: Cell) -> None:
    await cell.client.delete(cell.keys.name("limits"), cell.keys.name("limit", OWN))
    await cell.queue.write_limits([Limit(OWN, 1e6)], lost=True)
    now_us = await cell.store.inspector.now_us()
    ahead = (await cell.limit_state())["tat"] - now_us
    assert 1_000_000 < ahead <= 1_150_000
