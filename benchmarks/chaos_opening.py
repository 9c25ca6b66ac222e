"""Starts what a chaos run needs, and ends it again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.chaos_rig import Setting, Site, ways
from benchmarks.chaos_store import DURABLE, Server
from benchmarks.faults import small_disk
from dispatcher.store.opening import Store, open_store
from tests.faults.nodes import cluster, watched
from tests.faults.proxy import Proxy

DISK_MEGABYTES = 32
SENTINELS = 3
MASTERS = 3
"""Of a cluster, each with one replica."""


@asynccontextmanager
async def site(
    folder: Path, setting: Setting, rate: float, program: str
) -> AsyncIterator[tuple[Site, Store]]:
    """A run that is ready to send, and the store as its producer reaches it; `program` is that of
    the store."""
    async with AsyncExitStack() as stack:
        run = Site(folder, setting, ways(rate))
        stack.callback(run.close)
        url = await _serve(stack, run, program)
        config = run.configure(url)
        run.store = near = await stack.enter_async_context(open_store(config.store))
        if setting.proxied:
            run.proxy = await stack.enter_async_context(Proxy(run.store))
            config = run.configure(run.proxy.url)
            near = await stack.enter_async_context(open_store(config.store))
        run.open_batches(config)
        await run.start_workers()
        yield run, near


async def _serve(stack: AsyncExitStack, run: Site, program: str) -> str:
    """Start the servers; the url of the store they are."""
    servers, folder = run.setting.servers, run.folder / "store"
    if servers == "behind Sentinel":
        folder.mkdir()
        starting = watched(folder, program, *DURABLE, sentinels=SENTINELS)
        run.nodes = await stack.enter_async_context(starting)
        return run.nodes.url
    if servers == "cluster":
        folder.mkdir()
        building = cluster(folder, program, *DURABLE, masters=MASTERS, replicas=MASTERS)
        run.nodes = await stack.enter_async_context(building)
        return run.nodes.url
    if servers == "on a small disk":
        stack.enter_context(small_disk(folder, DISK_MEGABYTES))
    run.server = Server(folder, program, run.setting.clock)
    stack.callback(run.server.kill)
    await run.server.start()
    return run.server.url
