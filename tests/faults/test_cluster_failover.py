"""A store that is a cluster: the node that serves the cell dies, or the cell moves to another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dispatcher.config import load
from dispatcher.engine.ingest import Recipient
from dispatcher.errors import StoreUnavailable
from dispatcher.simulator import Simulator
from dispatcher.store.embedded import find_server
from dispatcher.store.opening import open_store
from tests.campaign import Campaign, numbers, twilio, until
from tests.faults.nodes import Cluster, cluster, in_sync, listened_to


@asynccontextmanager
async def campaign_on(
    built: Cluster, tmp_path: Path, simulator: Simulator, url: str
) -> AsyncIterator[Campaign]:
    path = tmp_path / "dispatcher.toml"
    lease = '[worker]\nlease = "2s"\n'
    path.write_text(f'[store]\nurl = "{built.url}"\n{twilio(url, rate="300/s")}{lease}')
    config = load(path, {})
    async with open_store(config.store) as store:
        yield Campaign(config, store, simulator)


async def accepted(run: Campaign, count: int) -> None:
    async def there() -> bool:
        return run.simulator.counts.accepted >= count

    await until(there)


async def test_the_node_of_the_cell_is_killed(
    tmp_path: Path, simulator: Simulator, simulator_url: str
) -> None:
    async with (
        cluster(tmp_path, find_server(), replicas=1) as built,
        campaign_on(built, tmp_path, simulator, simulator_url) as run,
    ):
        batch = await run.submit(numbers(450))
        async with run.work():
            await accepted(run, 100)
            owner, replica = await built.pair()
            await until(lambda: in_sync(owner, [replica]))
            await owner.end()
            await until(lambda: built.serves(replica))
            await until(lambda: listened_to(replica))
            assert await run.finished(batch) == {"sent": 450}
        assert run.arrived().keys() == run.ids(batch, 450)
        assert await run.is_empty()


async def test_the_cell_moves_to_a_new_node(
    tmp_path: Path, simulator: Simulator, simulator_url: str
) -> None:
    async with (
        cluster(tmp_path, find_server(), masters=1, spares=1) as built,
        campaign_on(built, tmp_path, simulator, simulator_url) as run,
    ):
        batch = await run.submit(numbers(450))
        (source,), (target,) = built.masters, built.spares
        async with run.work():
            await accepted(run, 100)
            moving = asyncio.create_task(built.move(source, target, pause=0.5))
            others = run.open()
            parts = (
                others.part(n, [Recipient(n, number)]) for n, number in enumerate(numbers(999))
            )
            with pytest.raises(StoreUnavailable, match="moves to another node"):
                for part in parts:
                    await others.enqueue(run.store.queue, part)
                    await asyncio.sleep(0.01)
            await moving
            await until(lambda: built.serves(target))
            assert not (await others.enqueue(run.store.queue, part)).repeated
            assert await run.finished(batch) == {"sent": 450}
            assert await run.finished(others.envelope.batch) == {"sent": part.first + 1}
        run.assert_each_arrived_once((batch, 450), (others.envelope.batch, part.first + 1))
        assert await run.is_empty()
        assert await source.ask("DBSIZE") == 0
