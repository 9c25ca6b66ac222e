"""A batch is cancelled: what it has scheduled is due, lanes that sleep are looked at, and entries
of other batches stay where they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dispatcher.store.opening import Store
from dispatcher.store.scripts import Argument, Script
from dispatcher.store.submissions import LOOKED_AT, Submissions
from tests.store.cell import LANE, OWN, Cell

HOUR_US = 3_600_000_000


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each script was called."""
    run, calls = Script.__call__, Counter[str]()

    async def counted(self: Script, key: str, *arguments: Argument) -> Any:
        calls[self.name] += 1
        return await run(self, key, *arguments)

    monkeypatch.setattr(Script, "__call__", counted)
    return calls


@pytest.fixture
async def other(store: Store) -> Cell:
    """Another batch, with many entries that are due later."""
    other = Cell(store)
    await other.limit(OWN)
    await other.worker("w1")
    due_us = await store.inspector.now_us() + HOUR_US
    await other.enqueue(2 * LOOKED_AT + 50, size=1, due_us=due_us)
    return other


async def cancel(cell: Cell) -> None:
    assert await Submissions(cell.client, cell.keys).cancel(cell.batch, ["p"])


async def due_later(cell: Cell) -> int:
    now_us = await cell.store.inspector.now_us()
    return int(await cell.client.zcount(cell.keys.name("scheduled"), now_us, "+inf"))


async def test_nothing_scheduled_is_looked_at_for_a_batch_that_has_none(
    other: Cell, calls: Counter[str]
) -> None:
    batch = Cell(other.store)
    await batch.enqueue(3)
    await cancel(batch)
    assert calls["cancel"] == 1
    assert await due_later(other) == 2 * LOOKED_AT + 50


@pytest.mark.parametrize("ahead_us", [-HOUR_US // 2, HOUR_US // 2])
async def test_what_it_has_scheduled_is_due_wherever_it_stands(other: Cell, ahead_us: int) -> None:
    batch, now_us = Cell(other.store), await other.store.inspector.now_us()
    await batch.enqueue(LOOKED_AT + 20, size=1, due_us=now_us + HOUR_US + ahead_us)
    await cancel(batch)
    assert await due_later(other) == 2 * LOOKED_AT + 50


async def test_a_lane_that_sleeps_is_looked_at(store_cell: Cell) -> None:
    await store_cell.enqueue(3)
    lanes, now_us = store_cell.keys.name("lanes", "p"), await store_cell.store.inspector.now_us()
    await store_cell.client.zadd(lanes, {LANE: now_us + HOUR_US})
    await cancel(store_cell)
    (entry,) = await store_cell.claim_entries("w1")
    assert entry.mark == "cancelled"
