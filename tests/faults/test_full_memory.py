"""The memory of the store is full: nothing new is taken, everything else goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks import faults
from dispatcher.errors import StoreFull
from dispatcher.simulator import Simulator
from tests.campaign import numbers, twilio
from tests.faults.server import Server, Troubled, troubled


@pytest.fixture
async def rig(
    tmp_path: Path, simulator: Simulator, simulator_url: str, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Troubled]:
    (tmp_path / "data").mkdir()
    toml = twilio(simulator_url, rate="300/s") + '[worker]\nlease = "1s"\n'
    with Server(tmp_path / "data").running() as server:
        async with troubled(server, simulator, toml, caplog) as rig:
            yield rig


async def test_what_is_queued_is_sent_and_nothing_is_taken(rig: Troubled) -> None:
    run = rig.run
    batch = await run.submit(numbers(400), class_="bulk")
    async with rig.server.client() as client, faults.fill_memory(client):
        async with run.work():  # which begins with the store full
            assert await run.finished(batch) == {"sent": 400}
            assert (await rig.health("/readyz"))[0] == 200
            status, after, detail = await rig.submit()
            assert (status, after) == (429, "5")
            assert detail == "the store takes no more messages for now"
            with pytest.raises(StoreFull):
                await run.submit(numbers(1))
        assert len(rig.lines("store has no room left")) <= 1
    run.assert_each_arrived_once((batch, 400))
    assert await run.is_empty()


async def test_nothing_is_taken_from_85_percent_on(rig: Troubled) -> None:
    run = rig.run
    async with rig.server.client() as client:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", int(used / 0.95))
        run.store.queue._memory._look_at = 0
        with pytest.raises(StoreFull, match="of maxmemory are in use, messages are taken below 85"):
            await run.submit(numbers(1))
        await client.config_set("maxmemory", int(used / 0.5))
        run.store.queue._memory._look_at = 0
        await run.submit(numbers(1))


async def test_memory_is_looked_at_once_a_second(rig: Troubled) -> None:
    async with rig.server.client() as client:
        await rig.run.submit(numbers(1))
        before = (await client.info("commandstats"))["cmdstat_info"]["calls"]
        for _ in range(100):
            await rig.run.submit(numbers(1))
        after = (await client.info("commandstats"))["cmdstat_info"]["calls"]
    assert after - before <= 10
