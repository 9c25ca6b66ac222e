"""A call that was given up for lost may reach the store after calls that were made later: a network
that heals delivers what it had kept."""

from __future__ import annotations

from collections import Counter

import pytest

from dispatcher.messages import Status, encode_sheet
from dispatcher.store.claims import Answered
from dispatcher.store.queue import Settlement, Sheet, WorkerLost
from tests.store.cell import LANE, Cell, entries_of, put_back, rows_of, settlement


async def test_a_late_settle_writes_nothing(cell: Cell) -> None:
    await cell.enqueue(8)
    (entry,) = await cell.claim_entries("w1")
    rows = rows_of(entry)
    sheet = Sheet(
        0, 1, 2, encode_sheet(1, LANE, [(row.index, row.to, None, None) for row in rows[:2]])
    )
    first = Settlement(entry.queue, entry.id, entry.batch, False, [], [], {"x": 2}, [sheet])
    again = put_back(entry)._replace(done=False, outcomes=[], sheets=[])
    pause = [("provider:p", 60_000_000)]
    await cell.settle("w1", first, number=1)
    before = await cell.counts()
    assert (before["sent"], before["x"]) == (2, 2)
    await cell.settle("w1", settlement(entry, Status.DEAD, rows[2:3], done=False), number=2)
    after, held = await cell.counts(), await cell.held("w1")
    for number, late in ((1, first), (0, again)):
        await cell.settle("w1", late, number=number, throttled=pause, breakers=[("p", 0, 1, 1)])
    assert (await cell.counts(), await cell.held("w1")) == (after, held)
    assert await cell.queues() == [entry.queue]
    assert (await cell.limit_state()).get("pause") is None
    assert not await cell.client.exists(cell.keys.name("breaker", "p"))
    await cell.settle("w1", settlement(entry, rows=rows[3:]), number=3)
    assert Counter((await cell.check()).values()) == {"sent": 7, "dead": 1}


async def test_a_late_comparison_takes_nothing_away(cell: Cell) -> None:
    await cell.limit("provider:q")
    await cell.enqueue(6, size=2)
    await cell.enqueue(2, "q/sms/a", limits=("provider:q",))
    (first,) = entries_of(await cell.claim("w1", 2, number=1))
    await cell.queue.reclaim_unseen("w1", "p", 1, [first.field])
    (second,) = entries_of(await cell.claim("w1", 2, number=2))
    await cell.claim("w1", provider="q", number=1)
    held = await cell.held("w1")
    assert second.field in held
    await cell.queue.reclaim_unseen("w1", "p", 1, [first.field])
    assert await cell.held("w1") == held
    await cell.queue.reclaim_unseen("w1", "p", 2, [first.field])
    assert second.field not in await cell.held("w1")
    await cell.queue.reclaim_unseen("w1", "q", 1, [])
    assert Counter((await cell.check()).values()) == {"held:w1": 2, "queue": 6}


async def test_what_a_late_claim_takes_is_found(cell: Cell) -> None:
    await cell.enqueue(4, size=2)
    (first,) = entries_of(await cell.claim("w1", 2, number=5))
    await cell.claim("w1", 2, number=4)
    await cell.queue.reclaim_unseen("w1", "p", 5, [first.field])
    assert Counter((await cell.check()).values()) == {"held:w1": 2, "queue": 2}


async def test_a_store_that_has_forgotten_gives_and_takes_nothing(cell: Cell) -> None:
    """It knows of fewer claims or settles than the worker was answered."""
    await cell.enqueue(6, size=2)
    (first,) = entries_of(await cell.claim("w1", 2, number=1))
    await cell.settle("w1", settlement(first), number=1)
    (second,) = entries_of(await cell.claim("w1", 2, number=2, answered=Answered(1, 1)))
    held, queues = await cell.held("w1"), await cell.queues()
    for answered in (Answered(3, 1), Answered(2, 2)):
        with pytest.raises(WorkerLost, match="has forgotten what worker w1 had written"):
            await cell.claim("w1", 2, number=4, answered=answered)
        with pytest.raises(WorkerLost, match="has forgotten what worker w1 had written"):
            await cell.queue.reclaim_unseen("w1", "p", 4, [], answered)
    assert (await cell.held("w1"), await cell.queues()) == (held, queues)
    await cell.queue.reclaim_unseen("w1", "p", 3, [second.field], Answered(2, 1))
    assert await cell.held("w1") == held
