"""What waits for its time is moved with all that is known of it."""

from __future__ import annotations

from dispatcher.store.moving import Moving
from dispatcher.store.queue import Move, Settlement
from tests.store.cell import LANE, Cell


async def test_workers_that_died_with_it_stay_counted(cell: Cell) -> None:
    await cell.enqueue(2)
    (entry,) = await cell.claim_entries("w1")
    again = Move(60_000_000, LANE, "normal", 2, 1, 0, entry.body, 1, 3)
    await cell.settle(
        "w1", Settlement(entry.queue, entry.id, entry.batch, True, [], [again], {})
    )  # fmt: skip
    pages = Moving(cell.client, cell.keys).scheduled("p")
    found = [(one.ambiguous, one.reclaims) async for page in pages for one in page]
    assert found == [(1, 3)]
