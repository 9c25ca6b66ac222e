"""A worker that one cell has declared dead starts anew there and goes on in the others."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.engine.reclaim import put_back
from dispatcher.engine.runtime import write_limits
from dispatcher.errors import StoreUnavailable
from dispatcher.store.scripts import Argument, Script
from tests.campaign import SID, Campaign, numbers, until
from tests.cells.conftest import WEST, Start, assert_nothing_left, halves


async def names_in(run: Campaign, cell: str) -> set[bytes]:
    keys = run.store.cells[cell].keys
    return set(await run.store.client.zrange(keys.name("workers"), 0, -1))


async def declare_dead(run: Campaign, cell: str) -> None:
    """What another worker does that sees no heartbeat."""
    queue = run.store.cells[cell].queue
    for name, beat in (await queue.heartbeat("watcher", first=True)).beats.items():
        if name != "watcher":
            await queue.reclaim_dead(name, beat, 0)
    await queue.leave("watcher")


async def test_only_its_cell_starts_anew(over_cells: Start, simulator_url: str) -> None:
    rates = '[carriers.de]\nrate = "300/s"\n'
    run = await over_cells(halves(simulator_url) + rates)
    batch = await run.submit(numbers(300), class_="bulk")
    accepted = run.simulator.counts.accepted_by_account

    async def under_way() -> bool:
        return min(accepted[f"twilio/{account}"] for account in (SID, WEST)) > 20

    async with run.work():
        await until(under_way)
        before = {cell: await names_in(run, cell) for cell in run.store.cells}
        await declare_dead(run, "eu")
        counts = await run.finished(batch)
        assert await names_in(run, "main") == before["main"]
        assert not await names_in(run, "eu") & before["eu"]
        assert await run.store.inspector.workers() == 1
    assert sum(counts.values()) == 300
    assert counts.keys() <= {"sent", "unknown"}
    assert set(run.arrived().values()) == {1}
    await assert_nothing_left(run)


async def test_what_a_process_held_is_put_back_in_every_cell(
    over_cells: Start, simulator_url: str
) -> None:
    run = await over_cells(halves(simulator_url))
    batch = await run.submit(numbers(100))
    await write_limits(run.store, run.ingest.limits, run.config.providers)
    for provider, name in (("twilio", "host.1.2.abc.boot-0"), ("west", "host.1.2.abc.boot-3")):
        queue = run.store.at(provider).queue
        await queue.heartbeat(name, first=True)
        await queue.claim(provider, name, 500, 10, [])
    assert await run.store.inspector.workers() == 1
    assert await put_back(run.store, "2.abc") == 100
    assert await run.store.inspector.workers() == 0
    assert await run.counts(batch) == {"queued": 100}


async def test_a_cell_that_does_not_answer_keeps_nobody_else_waiting(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await over_cells(halves(simulator_url))
    await run.submit(numbers(100))
    await write_limits(run.store, run.ingest.limits, run.config.providers)
    main, eu = (run.store.cells[cell].queue for cell in ("main", "eu"))
    for provider, queue in (("west", eu), ("twilio", main)):
        await queue.heartbeat("host.1.2.abc.boot-0", first=True)
        await queue.claim(provider, "host.1.2.abc.boot-0", 500, 10, [])
    call = Script.__call__

    async def without_main(self: Script, key: str, *arguments: Argument) -> Any:
        if self.name == "reclaim" and "{main}" in key:
            raise StoreUnavailable("store cannot be reached (cell main)")
        return await call(self, key, *arguments)

    monkeypatch.setattr(Script, "__call__", without_main)
    with pytest.raises(StoreUnavailable, match="cell main"):
        await put_back(run.store, "2.abc")
    assert await names_in(run, "main")
    assert not await names_in(run, "eu")
