"""The store loses what it had in memory beside the messages, or all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from benchmarks import faults
from dispatcher.simulator import Simulator
from dispatcher.store.opening import Store
from tests.campaign import SID, Campaign, numbers, twilio, until
from tests.faults.server import Server, Troubled, troubled

Start = Callable[[str], Campaign]


@pytest.fixture
async def rig(
    tmp_path: Path, simulator: Simulator, simulator_url: str, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Troubled]:
    (tmp_path / "data").mkdir()
    toml = twilio(simulator_url, rate="300/s") + '[worker]\nlease = "3s"\n'
    with Server(tmp_path / "data").running() as server:
        async with troubled(server, simulator, toml, caplog) as rig:
            yield rig


async def test_scripts_and_connections(rig: Troubled) -> None:
    run = rig.run
    batch = await run.submit(numbers(250), class_="bulk")
    async with rig.server.client() as client, run.work():
        for count in (50, 120, 190):
            await rig.accepted(count)
            await faults.flush_scripts(client)
            await faults.kill_clients(client)
        assert await rig.finished(batch) == {"sent": 250}
    run.assert_each_arrived_once((batch, 250))
    assert await run.is_empty()
    assert len(rig.lines("store cannot be reached")) <= 1
    assert (await rig.submit())[0] == 202


async def test_a_busy_store(rig: Troubled) -> None:
    run = rig.run
    batch = await run.submit(numbers(250), class_="bulk")
    async with rig.server.client() as client, run.work():
        await rig.accepted(50)
        await faults.sleep(client, 1)
        assert await run.finished(batch) == {"sent": 250}
    run.assert_each_arrived_once((batch, 250))
    assert await run.is_empty()


@pytest.mark.parametrize("class_", ["bulk", "normal"])
async def test_groups_while_messages_are_held(
    campaign: Start, simulator_url: str, store: Store, class_: str
) -> None:
    run = campaign(twilio(simulator_url, rate="300/s"))
    run.simulator.change_account(f"twilio/{SID}", latency={"mean": 0.2})
    batch = await run.submit(numbers(400), class_=class_)
    async with run.work():
        for _ in range(4):
            await asyncio.sleep(0.2)
            assert await faults.destroy_groups(store.client, store.keys) > 0
        assert await run.finished(batch) == {"sent": 400}
    run.assert_each_arrived_once((batch, 400))
    assert await run.is_empty()


async def test_everything(rig: Troubled) -> None:
    run = rig.run
    lost = await run.submit(numbers(300, "+49152"), class_="bulk")
    async with rig.server.client() as client, run.work():
        await rig.accepted(50)
        await faults.flush_all(client)

        async def anew() -> bool:
            return await run.store.inspector.workers() == 1

        await until(anew)
        batch = await run.submit(numbers(100), class_="bulk")
        assert await run.finished(batch) == {"sent": 100}
        arrived = run.arrived()
        assert {name for name in arrived if name.startswith(batch)} == run.ids(batch, 100)
        assert set(arrived.values()) == {1}
        assert len(arrived) < 400
    assert await run.is_empty()
    assert await run.store.inspector.batch(lost) is None
