"""A batch whose messages go to providers in two cells: accepted once, counted once, cancelled."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from dispatcher.engine.ingest import OpenBatch, Part, Recipient
from dispatcher.errors import StoreFull, StoreUnavailable, TenantFull
from dispatcher.store.queue import Accepted
from dispatcher.store.scripts import Argument, Script
from dispatcher.store.submissions import Submissions
from tests.campaign import Campaign, numbers
from tests.cells.conftest import Start, assert_nothing_left, halves, in_cell


def part_of(opened: OpenBatch, count: int, first: int = 0) -> Part:
    return opened.part(first, [Recipient(first + n, to) for n, to in enumerate(numbers(count))])


def fails_in(monkeypatch: pytest.MonkeyPatch, cell: str, error: Exception) -> None:
    """The next enqueue in a cell does not get there."""
    call, errors = Script.__call__, [error]

    async def failing(self: Script, key: str, *arguments: Argument) -> Any:
        if self.name == "enqueue" and f"{{{cell}}}" in key and errors:
            raise errors.pop()
        return await call(self, key, *arguments)

    monkeypatch.setattr(Script, "__call__", failing)


async def test_it_is_sent_once_and_adds_up(over_cells: Start, simulator_url: str) -> None:
    run = await over_cells(halves(simulator_url))
    batch = await run.submit(numbers(400), class_="bulk")
    totals = [(await in_cell(run, cell, batch))["total"] for cell in ("main", "eu")]
    assert sum(totals) == (await run.view(batch)).total == 400
    assert min(totals) > 100
    assert await run.store.inspector.unfinished() == 400
    async with run.work():
        assert await run.finished(batch) == {"sent": 400}
        assert await run.store.inspector.workers() == 1
    run.assert_each_arrived_once((batch, 400))
    assert [await in_cell(run, cell, batch) for cell in ("main", "eu")] == [
        {"total": total, "sent": total} for total in totals
    ]
    assert len(await run.records(batch)) == 400
    assert await run.store.inspector.batches() == [batch]
    await assert_nothing_left(run)


async def test_it_is_due_in_every_cell_at_the_same_time(
    over_cells: Start, simulator_url: str
) -> None:
    run = await over_cells(halves(simulator_url))
    due_us = await run.store.inspector.now_us() + 3_600_000_000
    batch = await run.submit(numbers(400), send_at_us=due_us)
    assert (await run.view(batch)).due_us == due_us


@pytest.mark.parametrize("cell", ["main", "eu"])
async def test_a_part_that_missed_a_cell_is_completed_when_it_comes_again(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    run = await over_cells(halves(simulator_url))
    opened = run.open()
    batch, part = opened.envelope.batch, part_of(opened, 100)
    fails_in(monkeypatch, cell, StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        await opened.enqueue(run.store.queue, part)
    assert (await run.store.inspector.parts(batch))[0] == {}
    assert await opened.enqueue(run.store.queue, part) == Accepted(100)
    assert (await run.view(batch)).total == 100
    assert await opened.enqueue(run.store.queue, part) == Accepted(0, True, part.check)
    assert (await run.store.inspector.parts(batch))[0] == {0: part.check}
    assert (await run.view(batch)).total == 100


async def test_other_recipients_do_not_complete_it(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await over_cells(halves(simulator_url))
    opened = run.open()
    part, other = part_of(opened, 100), part_of(opened, 90)
    fails_in(monkeypatch, "main", StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        await opened.enqueue(run.store.queue, part)
    assert await opened.enqueue(run.store.queue, other) == Accepted(0, True, part.check)
    assert (await opened.enqueue(run.store.queue, part)).check == ""
    assert (await run.view(opened.envelope.batch)).total == 100


async def test_a_cell_that_is_full_after_another_took_its_messages_leaves_the_part_in_doubt(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await over_cells(halves(simulator_url))
    opened = run.open()
    fails_in(monkeypatch, "main", StoreFull("store is full (enqueue): OOM"))
    with pytest.raises(StoreUnavailable, match="reached some cells only") as raised:
        await opened.enqueue(run.store.queue, part_of(opened, 100))
    assert not isinstance(raised.value, StoreFull)


async def test_the_bounds_hold_over_all_cells(over_cells: Start, simulator_url: str) -> None:
    tenant = '[tenants.acme]\ntoken = "t"\nmax_queued = 70\n'
    run = await over_cells(halves(simulator_url) + tenant)
    run.config = replace(run.config, store=replace(run.config.store, max_queued=100))
    run = Campaign(run.config, run.store, run.simulator)
    acme, other = run.open(tenant="acme"), run.open()
    await acme.enqueue(run.store.queue, part_of(acme, 60))
    with pytest.raises(TenantFull, match="max_queued = 70 reached: 60 queued"):
        await acme.enqueue(run.store.queue, part_of(acme, 20, first=60))
    await other.enqueue(run.store.queue, part_of(other, 30))
    with pytest.raises(StoreFull, match="max_queued = 100 reached: 90 queued"):
        await other.enqueue(run.store.queue, part_of(other, 20, first=30))
    assert await run.store.inspector.unfinished() == 90


async def test_it_is_cancelled_in_every_cell(over_cells: Start, simulator_url: str) -> None:
    run = await over_cells(halves(simulator_url))
    batch = await run.submit(numbers(400), class_="bulk")
    submissions = Submissions(run.store.client, run.store.keys)
    assert await submissions.cancel(batch, run.config.providers)
    assert not await submissions.cancel("0" * 26, run.config.providers)
    async with run.work():
        assert await run.finished(batch) == {"cancelled": 400}
    assert run.arrived().total() == 0
    await assert_nothing_left(run)
