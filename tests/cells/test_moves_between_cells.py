"""A message whose next provider is in another cell gets there once, whatever breaks on its way."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from redis.exceptions import ResponseError

from dispatcher.engine.views import message
from dispatcher.errors import StoreUnavailable
from dispatcher.messages import Row
from dispatcher.settings import StoreConfig
from dispatcher.store.confirming import Question
from dispatcher.store.crossings import Crossings
from dispatcher.store.opening import Store, open_store
from dispatcher.store.queue import Move
from dispatcher.store.scripts import Argument, Script
from dispatcher.store.submissions import Submissions
from tests.campaign import SID, Campaign, numbers, until
from tests.cells.conftest import (
    Start,
    assert_nothing_left,
    in_cell,
    messages_leaving,
    two_providers,
)
from tests.faults.proxy import Proxy
from tests.faults.workers import worker
from tests.store.cell import Cell, body_of, settlement

ROUTE = '[[routes]]\nproviders = ["twilio", "west"]\n'
LEASE = '[worker]\nlease = "1s"\n'


async def failing_over(over_cells: Start, url: str, more: str = "") -> Campaign:
    """A campaign whose first provider, in the main cell, refuses everything."""
    run = await over_cells(two_providers(url) + ROUTE + more)
    run.simulator.change_account(f"twilio/{SID}", suspended=True)
    return run


async def test_it_is_sent_there_and_counted_there(over_cells: Start, simulator_url: str) -> None:
    run = await failing_over(over_cells, simulator_url)
    batch = await run.submit(numbers(100))
    async with run.work():
        assert await run.finished(batch) == {"sent": 100}
    run.assert_each_arrived_once((batch, 100))
    assert await in_cell(run, "main", batch) == {"total": 0}
    assert await in_cell(run, "eu", batch) == {"total": 100, "sent": 100}
    records = await run.records(batch)
    assert {record.lane for _, record in records.values()} == {"west/sms/de"}
    story = await message(run.store.inspector, f"{batch}-7")
    assert story is not None
    assert (story["status"], story["provider"], len(story["attempts"])) == ("sent", "west", 1)
    await assert_nothing_left(run)


@pytest.mark.parametrize(("script", "every"), [("settle", 2), ("arrive", 1), ("depart", 2)])
async def test_a_lost_reply_of_each_step(
    over_cells: Start, simulator_url: str, script: str, every: int
) -> None:
    run = await failing_over(over_cells, simulator_url, LEASE)
    batch = await run.submit(numbers(80), class_="bulk")
    async with Proxy(run.store) as proxy:
        config = StoreConfig(
            url=proxy.url, prefix=run.store.keys.prefix, places=run.store.keys.places
        )
        async with open_store(config) as far:
            await proxy.lose(script, every, 3)
            async with Campaign(run.config, far, run.simulator).work():
                assert await run.finished(batch) == {"sent": 80}
        assert proxy.lost >= 1
    run.assert_each_arrived_once((batch, 80))
    assert (await run.view(batch)).total == 80
    await assert_nothing_left(run)


async def test_a_worker_killed_between_arrival_and_departure(
    over_cells: Start, simulator_url: str, tmp_path: Path
) -> None:
    run = await failing_over(over_cells, simulator_url, LEASE)
    batch = await run.submit(numbers(80), class_="bulk")
    async with Proxy(run.store) as proxy:
        path = tmp_path / "far.toml"
        store = f'[store]\nurl = "{proxy.url}"\nprefix = "{run.store.keys.prefix}"\n'
        path.write_text(store + two_providers(simulator_url) + ROUTE + LEASE)
        await proxy.lose("arrive", 1, 1_000_000)
        with worker(path) as process:

            async def arrived_again() -> bool:
                return proxy.lost >= 2

            await until(arrived_again)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    assert await messages_leaving(run) > 0
    async with run.work():
        counts = await run.finished(batch)
        await until(lambda: alone(run))
    assert sum(counts.values()) == (await run.view(batch)).total == 80
    assert counts.keys() <= {"sent", "unknown"}
    assert set(run.arrived().values()) == {1}
    await assert_nothing_left(run)


async def alone(run: Campaign) -> bool:
    """What the worker that was killed held is taken over."""
    return await run.store.inspector.workers() == 1


async def test_what_another_worker_left_on_its_way_is_carried(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await failing_over(over_cells, simulator_url, LEASE)
    batch = await run.submit(numbers(50))
    await leave_all(run, monkeypatch)
    view = await run.view(batch)
    assert (view.total, view.counts["queued"]) == (50, 50)
    run.simulator.change_account(f"twilio/{SID}", suspended=False)
    async with run.work():
        assert await run.finished(batch) == {"sent": 50}
    run.assert_each_arrived_once((batch, 50))
    await assert_nothing_left(run)


async def leave_all(run: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that ends before it has carried anything."""

    async def all_left() -> bool:
        return await messages_leaving(run) == 50

    async def nothing(self: Crossings, status_seconds: float) -> int:
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(Crossings, "carry", nothing)
        async with run.work():
            await until(all_left)


@pytest.mark.parametrize("marked", [True, False])
async def test_a_batch_cancelled_meanwhile(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch, marked: bool
) -> None:
    """Also when the mark in the other cell is gone again, or did not get there."""
    run = await failing_over(over_cells, simulator_url)
    batch = await run.submit(numbers(50))
    await leave_all(run, monkeypatch)
    submissions = Submissions(run.store.client, run.store.keys)
    assert await submissions.cancel(batch, run.config.providers)
    if not marked:
        await run.store.client.delete(run.store.cells["eu"].keys.name("batch", batch))
    async with run.work():
        assert await run.finished(batch) == {"cancelled": 50}
    assert run.arrived().total() == 0
    await assert_nothing_left(run)


async def test_a_batch_cancelled_between_departure_and_arrival(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await failing_over(over_cells, simulator_url)
    batch = await run.submit(numbers(50))
    await leave_all(run, monkeypatch)
    submissions, script = Submissions(run.store.client, run.store.keys), Script.__call__

    async def cancel_first(self: Script, key: str, *arguments: Argument) -> Any:
        if self.name == "arrive":
            assert await submissions.cancel(batch, run.config.providers)
        return await script(self, key, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Script, "__call__", cancel_first)
        await carry(run.store)
    async with run.work():
        assert await run.finished(batch) == {"cancelled": 50}
    assert run.arrived().total() == 0


async def test_two_workers_that_carry_the_same(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await failing_over(over_cells, simulator_url)
    batch = await run.submit(numbers(50))
    await leave_all(run, monkeypatch)
    await asyncio.gather(*(carry(run.store) for _ in range(3)))
    assert await messages_leaving(run) == 0
    assert await in_cell(run, "eu", batch) == {"total": 50, "queued": 50}
    async with run.work():
        assert await run.finished(batch) == {"sent": 50}
    run.assert_each_arrived_once((batch, 50))


async def carry(store: Store) -> None:
    await Crossings(store.client, store.keys).carry(3600)


async def test_a_move_that_is_due_later_waits_in_its_cell(
    store: Store, store_config: StoreConfig
) -> None:
    async with open_store(replace(store_config, places={"west": "eu"})) as opened:
        cell = Cell(opened)
        await cell.limit()
        await cell.worker("w1")
        await cell.enqueue(1)
        (entry,) = await cell.claim_entries("w1")
        wait_us, since_us = 60_000_000, await opened.inspector.now_us()
        body = body_of(cell.batch, [Row(0, "+4915100000000", hop=1)])
        move = Move(wait_us, "west/sms/a", "normal", 1, 1, 0, body, name=f"{cell.batch}-0.1")
        moved = settlement(entry, rows=())._replace(moves=[move])
        await cell.settle("w1", moved)
        await carry(opened)
        eu = opened.cells["eu"]
        ((item, due),) = await store.client.zrange(
            eu.keys.name("scheduled"), 0, -1, withscores=True
        )
        assert item.startswith(b"+")
        assert since_us + wait_us <= due <= await eu.inspector.now_us() + wait_us
        view = await opened.inspector.batch(cell.batch)
        assert view is not None
        assert (view.total, view.counts["scheduled"], view.channel) == (1, 1, "sms")
        assert await opened.inspector.unfinished() == 1


async def test_what_has_arrived_leaves_when_that_is_confirmed(
    over_cells: Start, simulator_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        await store.client.execute_command("WAITAOF", 0, 0, 1)
    except ResponseError:
        pytest.skip("this server is too old for WAITAOF")
    run = await over_cells('confirm = "disk"\n' + two_providers(simulator_url) + ROUTE)
    run.simulator.change_account(f"twilio/{SID}", suspended=True)
    batch = await run.submit(numbers(50))
    await leave_all(run, monkeypatch)
    crossings = Crossings(run.store.client, run.store.keys, run.store.confirming)
    with monkeypatch.context() as patched:
        patched.setattr(Question, "is_met", lambda self, answer: False)
        with pytest.raises(StoreUnavailable, match="not confirmed"):
            await crossings.carry(3600)
        assert await messages_leaving(run) == 50
    async with run.work():
        assert await run.finished(batch) == {"sent": 50}
    run.assert_each_arrived_once((batch, 50))
    await assert_nothing_left(run)
