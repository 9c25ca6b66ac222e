"""Two cells on two nodes of a cluster: messages are sent by both and move between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatcher.config import load
from dispatcher.errors import StoreFull, StoreUnavailable
from dispatcher.simulator import Simulator
from dispatcher.store.embedded import find_server
from dispatcher.store.opening import open_store
from dispatcher.store.submissions import Submissions
from tests.campaign import SID, Campaign, numbers
from tests.cells.conftest import halves, in_cell
from tests.faults.nodes import Node, cluster


async def assert_takes_nothing_when_full(run: Campaign, node: Node) -> None:
    """Messages for both nodes are refused while one of them is full."""
    used = (await node.client.info("memory"))["used_memory"]
    await node.client.config_set("maxmemory", used)
    async with open_store(run.config.store) as store:  # which has not looked before
        with pytest.raises((StoreFull, StoreUnavailable), match="of maxmemory are in use"):
            await Campaign(run.config, store, run.simulator).submit(numbers(50))
    await node.client.config_set("maxmemory", 0)


async def test_they_share_the_load_of_a_batch(
    tmp_path: Path, simulator: Simulator, simulator_url: str
) -> None:
    async with cluster(tmp_path, find_server(), masters=2) as built:
        path = tmp_path / "dispatcher.toml"
        path.write_text(f'[store]\nurl = "{built.url}"\n{halves(simulator_url)}')
        config = load(path, {})
        async with open_store(config.store) as store:
            run = Campaign(config, store, simulator)
            batch = await run.submit(numbers(300))
            async with run.work():
                assert await run.finished(batch) == {"sent": 300}
                assert await store.inspector.workers() == 1
                simulator.change_account(f"twilio/{SID}", suspended=True)
                moved = await run.submit(numbers(80))
                assert await run.finished(moved) == {"sent": 80}
            run.assert_each_arrived_once((batch, 300), (moved, 80))
            assert await in_cell(run, "eu", moved) == {"total": 80, "sent": 80}
            last = await run.submit(numbers(100), class_="bulk")
            assert await Submissions(store.client, store.keys).cancel(last, config.providers)
            async with run.work():
                assert await run.finished(last) == {"cancelled": 100}
            assert set(await store.inspector.batches()) == {batch, moved, last}
            assert await store.inspector.unfinished() == 0
            for node in built.masters:
                await assert_takes_nothing_when_full(run, node)
        holding = [await node.client.dbsize() for node in built.masters]
        assert min(holding) > 0
