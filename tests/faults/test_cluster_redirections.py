"""A cell has moved to another node of its cluster: every kind of call finds it there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import pytest
import pytest_asyncio
from redis.exceptions import ResponseError

from dispatcher.limits import Limit
from dispatcher.settings import StoreConfig
from dispatcher.store.bell import Bell
from dispatcher.store.control import Control
from dispatcher.store.embedded import find_server
from dispatcher.store.gathering import gather
from dispatcher.store.inspector import Inspector
from dispatcher.store.keys import Keys
from dispatcher.store.opening import Store, open_store
from dispatcher.store.queue import Queue
from dispatcher.store.submissions import Fixed, Submissions
from dispatcher.toml import Secret
from tests.faults.nodes import Cluster, cluster, rights
from tests.store.cell import LANE, OWN, Cell

FIRST_CALLS = {
    "script": lambda store: store.queue.heartbeat("w1"),
    "read": lambda store: store.inspector.workers(),
    "several reads": lambda store: store.inspector.lanes([LANE, "p/sms/b"]),
    "walk": lambda store: store.inspector.batches(),
    "clock": lambda store: store.inspector.now_us(),
}
"""What a client whose cell has moved may be asked first."""


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Two masters that the tests share; each begins with both of them empty."""
    user = f"user worker on >worker-password {rights()}"
    async with cluster(tmp_path_factory.mktemp("two"), find_server(), user, masters=2) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="module")
async def built(nodes: Cluster) -> Cluster:
    for node in nodes.masters:
        await node.ask("FLUSHALL")
    return nodes


async def opened(stack: AsyncExitStack, built: Cluster) -> Store:
    config = StoreConfig(
        url=built.url, username=Secret("worker"), password=Secret("worker-password")
    )
    return await stack.enter_async_context(open_store(config))


async def test_every_cell_is_reached_where_it_is(built: Cluster) -> None:
    async with AsyncExitStack() as stack:
        store = await opened(stack, built)
        here, there = store.keys, Keys(store.keys.prefix, "eu")
        gathered = gather(store.client)
        for keys in (here, there):
            await Queue(store.client, keys).write_limits([Limit(OWN, 1000.0)])
            await Queue(gathered, keys).heartbeat(keys.cell, first=True)
        calls = [Submissions(gathered, keys).owner("B") for keys in (here, there)]
        assert await asyncio.gather(*calls) == [None, None]
        for keys in (here, there):
            inspector = Inspector(store.client, keys)
            assert await inspector.workers() == 1
            assert (await inspector.limits([OWN])).keys() == {OWN}
            bell = Bell(store.blocking, keys, ["p"])
            await store.client.rpush(keys.name("bell", "p"), "1")
            assert await bell.rung() == "p"
        assert all([await node.ask("DBSIZE") for node in built.masters])


@pytest.mark.parametrize("way", ["key by key", "at once"])
async def test_every_kind_of_call_follows(built: Cluster, way: str) -> None:
    async with AsyncExitStack() as stack:
        source = await built.owner(built.masters[0])
        assert source is not None
        (target,) = {*built.masters} - {source}
        stores = {name: await opened(stack, built) for name in (*FIRST_CALLS, "gathered", "other")}
        cell = Cell(stores["other"])
        await cell.limit(OWN)
        await cell.worker("w1")
        await cell.enqueue(3)
        before = {name: await call(stores[name]) for name, call in FIRST_CALLS.items()}
        announcing = Control(target.client, cell.keys)  # a node tells all of them
        heard = await stack.enter_async_context(aclosing(announcing.announcements()))
        assert await anext(heard) is None
        await cell.limit(OWN, rate=10)
        assert await anext(heard) == (OWN, "")
        rung = asyncio.create_task(Bell(stores["read"].blocking, cell.keys, ["q"]).rung())
        submissions = Submissions(gather(stores["gathered"].client), cell.keys)
        calls = [Fixed(f"B{number}", number, b"") for number in range(5)]
        await asyncio.gather(*(submissions.fix("t", c.batch, "a", c) for c in calls))
        if way == "at once":
            try:
                await built.move_at_once(source, target)
            except ResponseError:
                pytest.skip("needs a server that moves slots in one step (Valkey 9.0)")
        else:
            await built.move(source, target, pause=0)

        found = {name: await call(stores[name]) for name, call in FIRST_CALLS.items()}
        assert found["read"] == before["read"] == 1
        assert found["several reads"] == before["several reads"]
        assert found["several reads"][0].waiting == 3
        assert found["walk"] == before["walk"] != []
        assert found["clock"] > before["clock"]
        again = [submissions.fix("t", c.batch, "a", Fixed("", 0, b"")) for c in calls]
        assert await asyncio.gather(*again) == calls
        await target.ask("RPUSH", cell.keys.name("bell", "q"), "1")
        assert await rung == "q"
