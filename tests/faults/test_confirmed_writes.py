"""What is accepted is as safe as `[store] confirm` asks for, or the caller is told to try again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.errors import ConfigError, StoreUnavailable
from dispatcher.settings import StoreConfig
from dispatcher.simulator import Simulator
from dispatcher.store.opening import Store, open_store
from tests.campaign import twilio
from tests.faults.server import Server, troubled
from tests.store.cell import OWN, Cell

DEBIAN = shutil.which("redis-server")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with Server(folder).running() as server:
        yield server


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a confirmation that does not come."""
    monkeypatch.setattr("dispatcher.store.confirming.CONFIRM_SECONDS", 0.2)


async def cell_of(store: Store) -> Cell:
    cell = Cell(store)
    await cell.limit(OWN)
    return cell


async def test_what_is_not_on_disk_is_not_accepted(server: Server, soon: None) -> None:
    async with open_store(StoreConfig(url=server.url, confirm="disk")) as store:
        cell = await cell_of(store)
        await store.client.config_set("appendfsync", "no")
        for _ in range(2):  # the second time nothing but the mark is written
            with pytest.raises(StoreUnavailable, match="not confirmed a write in time") as found:
                await cell.enqueue(3, first=0)
            assert found.value.state == "unconfirmed"
            await store.client.connection_pool.disconnect()
        await store.client.config_set("appendfsync", "always")
        assert (await cell.enqueue(3, first=0)).repeated
        assert list((await cell.check()).values()) == ["queue"] * 3


async def test_calls_share_the_wait_for_the_disk(server: Server) -> None:
    async with open_store(StoreConfig(url=server.url, confirm="disk")) as store:
        cells = [await cell_of(store) for _ in range(300)]
        await asyncio.gather(*(cell.enqueue(1) for cell in cells))
        stats = await store.client.info("commandstats")
        assert await store.inspector.unfinished() == 300
    assert stats["cmdstat_waitaof"]["calls"] <= 30


async def test_the_api_says_that_the_call_may_be_made_again(
    folder: Path,
    server: Server,
    simulator: Simulator,
    simulator_url: str,
    caplog: pytest.LogCaptureFixture,
    soon: None,
) -> None:
    toml = 'confirm = "disk"\n' + twilio(simulator_url)
    async with troubled(server, simulator, toml, caplog) as rig, server.client() as client:
        await client.config_set("appendfsync", "no")
        status, after, detail = await rig.submit()
        assert (status, after) == (503, "2")
        assert detail == "store has not confirmed a write in time"
        await client.config_set("appendfsync", "always")
        assert (await rig.submit())[0] == 202
        assert await rig.run.store.inspector.unfinished() == 1


@pytest.mark.parametrize("program", [None, DEBIAN])
async def test_a_replica_must_have_it(tmp_path: Path, program: str | None, soon: None) -> None:
    if DEBIAN is None:
        pytest.skip("needs redis-server (Debian: redis-server)")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (Server(tmp_path / name, program) for name in ("one", "two"))
    with one.running(), two.running():
        async with open_store(StoreConfig(url=one.url, confirm="replica")) as store:
            cell = await cell_of(store)
            with pytest.raises(StoreUnavailable, match="not confirmed"):
                await cell.enqueue(3, first=0)
            async with two.client() as client:
                await client.execute_command("REPLICAOF", "127.0.0.1", one.port)
                await client.config_set("appendfsync", "always")
                await store.client.config_set("appendfsync", "always")
                async with asyncio.timeout(20):
                    while not await confirmed(cell):
                        pass
                assert await client.get(cell.keys.name("queued")) == b"3"


async def confirmed(cell: Cell) -> bool:
    try:
        return (await cell.enqueue(3, first=0)).repeated
    except StoreUnavailable:
        return False


async def test_a_server_without_a_file(folder: Path) -> None:
    with (
        Server(folder, None, "--appendonly", "no").running() as server,
        pytest.raises(ConfigError, match='confirm = "disk" needs an append-only file'),
    ):
        async with open_store(StoreConfig(url=server.url, confirm="disk")):
            pass


@pytest.mark.skipif(DEBIAN is None, reason="needs redis-server (Debian: redis-server)")
async def test_a_server_that_is_too_old(folder: Path) -> None:
    with (
        Server(folder, DEBIAN).running() as server,
        pytest.raises(ConfigError, match="needs WAITAOF: Redis 7"),
    ):
        async with open_store(StoreConfig(url=server.url, confirm="disk")):
            pass
