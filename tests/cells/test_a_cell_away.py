"""The node of one cell is gone: what goes to the others goes on, and everybody who asks hears which
cell it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.crc import key_slot

from dispatcher.config import load
from dispatcher.engine import runtime
from dispatcher.errors import StoreUnavailable
from dispatcher.simulator import Simulator
from dispatcher.store.crossings import Crossings
from dispatcher.store.embedded import find_server
from dispatcher.store.opening import open_store
from dispatcher.store.scripts import Argument, Script
from tests.campaign import SID, Campaign, numbers, twilio, until
from tests.cells.conftest import Start, two_providers
from tests.faults.nodes import SLOTS, Cluster, Node, cluster
from tests.web.conftest import serving, submission

PARTIAL = "cluster-require-full-coverage no"
ROUTES = """
[[routes]]
to = "+49*"
providers = ["twilio"]
[[routes]]
providers = ["west"]
"""
AWAY = "store cannot be reached (cell eu)"


def node_of(built: Cluster, cell: str) -> Node:
    share = -(-SLOTS // len(built.masters))
    return built.masters[key_slot(f"{{{cell}}}".encode()) // share]


@asynccontextmanager
async def two_nodes(
    directory: Path, simulator: Simulator, url: str
) -> AsyncIterator[tuple[Campaign, Cluster]]:
    """A campaign whose cells are on nodes of their own."""
    async with cluster(directory, find_server(), PARTIAL, masters=3) as built:
        assert node_of(built, "main") is not node_of(built, "eu")
        path = directory / "dispatcher.toml"
        toml = two_providers(url) + ROUTES
        path.write_text(f'[store]\nurl = "{built.url}"\n[worker]\nlease = "2s"\n{toml}')
        config = load(path, {})
        async with open_store(config.store) as store:
            yield Campaign(config, store, simulator), built


async def posted(http: aiohttp.ClientSession, to: str) -> tuple[int, dict[str, Any]]:
    body = submission(to, **{"from": "+4915550006"})
    async with http.post("/v1/messages", json=body) as response:
        return response.status, await response.json()


async def test_the_rest_goes_on(
    tmp_path: Path,
    simulator: Simulator,
    simulator_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(runtime, "FLUSH_SECONDS", 0.5)  # for outcomes that nobody takes
    async with two_nodes(tmp_path, simulator, simulator_url) as (run, built), run.work():
        async with serving(run.config) as url, aiohttp.ClientSession(url) as http:
            assert (await posted(http, "+15550000001"))[0] == 202
            await until(lambda: sent(simulator, 1))
            await node_of(built, "eu").end()

            async def told() -> bool:
                health = await (await http.get("/readyz")).json()
                return bool(health.get("cells") == {"eu": "store cannot be reached"})

            await until(told)
            assert (await http.get("/readyz")).status == 200
            for number in range(20):
                assert (await posted(http, f"+49151{number:08}"))[0] == 202
            await until(lambda: sent(simulator, 21))
            status, problem = await posted(http, "+15550000002")
            assert (status, problem["detail"]) == (503, AWAY)
        async with serving(run.config) as url, aiohttp.ClientSession(url) as http:
            assert (await posted(http, "+4915100000099"))[0] == 202  # it starts without the cell
        await runtime.write_limits(run.store, run.ingest.limits, run.config.providers)
        with pytest.raises(StoreUnavailable, match="cell eu") as raised:
            await run.store.inspector.unfinished()
        assert raised.value.cell == "eu"
        await until(lambda: sent(simulator, 22))
    lines = [record.getMessage() for record in caplog.records]
    assert any("cell eu" in line for line in lines)
    assert not any("cell main" in line for line in lines)


async def sent(simulator: Simulator, messages: int) -> bool:
    return simulator.counts.accepted == messages


async def test_moves_to_a_cell_that_answers_do_not_wait_for_one_that_does_not(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    us = twilio(simulator_url, name="east", sid="AC" + "2" * 32, cell="us")
    routes = """
    [[routes]]
    to = "+49*"
    providers = ["twilio", "west"]
    [[routes]]
    providers = ["twilio", "east"]
    """
    run = await over_cells(two_providers(simulator_url) + us + routes)
    run.simulator.change_account(f"twilio/{SID}", suspended=True)
    call, away = Script.__call__, StoreUnavailable("store cannot be reached (arrive, cell eu)")

    async def without_eu(self: Script, key: str, *arguments: Argument) -> Any:
        if self.name == "arrive" and "{eu}" in key:
            raise away
        return await call(self, key, *arguments)

    monkeypatch.setattr(Script, "__call__", without_eu)
    to_eu = await run.submit(numbers(150))
    to_us = await run.submit(numbers(10, "+1555"))

    async def in_us() -> bool:
        view = await run.store.cells["us"].inspector.batch(to_us)
        return view is not None and view.total == 10

    async with run.work():
        await until(in_us)

        async def some_for_eu() -> bool:
            return await run.store.inspector.leaving() > 0

        await until(some_for_eu)
        with pytest.raises(StoreUnavailable, match="cell eu"):
            await Crossings(run.store.client, run.store.keys).carry(60)
        monkeypatch.undo()
        assert await run.finished(to_eu) == {"sent": 150}
