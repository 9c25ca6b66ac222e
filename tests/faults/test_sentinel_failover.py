"""A store behind Sentinel: the master dies, or another one becomes the master."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio as aioredis
from redis.exceptions import ConnectionError as NoConnection

from dispatcher.address import Node as Where
from dispatcher.config import load
from dispatcher.errors import ConfigError
from dispatcher.simulator import Simulator
from dispatcher.store.connection import connect, reach
from dispatcher.store.embedded import find_server
from dispatcher.store.masters import Directory, master_pool
from dispatcher.store.opening import open_store
from tests.campaign import Campaign, numbers, twilio, until
from tests.faults.nodes import QUICK, Watched, in_sync, listened_to, rights, watched
from tests.ports import free_port

ADMIN = "admin-password"
LOGIN = {
    "username": "worker",
    "password": "worker-password",
    "sentinel_username": "asker",
    "sentinel_password": "asker-password",
}


@pytest.fixture
async def store_nodes(tmp_path: Path) -> AsyncIterator[Watched]:
    login = (f"requirepass {ADMIN}", f"masterauth {ADMIN}")
    lines = (*QUICK, *login, f"user worker on >worker-password {rights()}")
    watching = (
        f"sentinel auth-pass mymaster {ADMIN}",
        f"requirepass {ADMIN}",
        "user asker on >asker-password +sentinel|master",
    )
    async with watched(tmp_path, find_server(), *lines, watching=watching, password=ADMIN) as built:
        yield built


@pytest.fixture
async def run(
    store_nodes: Watched, tmp_path: Path, simulator: Simulator, simulator_url: str
) -> AsyncIterator[Campaign]:
    path = tmp_path / "dispatcher.toml"
    url = store_nodes.url.replace("//", f"//127.0.0.1:{free_port()},")  # one that is silent
    keys = "".join(f'{key} = "{value}"\n' for key, value in LOGIN.items())
    table = twilio(simulator_url, rate="300/s")
    lease = '[worker]\nlease = "2s"\n'
    path.write_text(f'[store]\nurl = "{url}"\n{keys}{table}{lease}')
    config = load(path, {})
    async with open_store(config.store) as store:
        yield Campaign(config, store, simulator)


@asynccontextmanager
async def in_mid_campaign(run: Campaign) -> AsyncIterator[str]:
    """A worker that has sent a third of a batch, and then goes on to its end."""
    batch = await run.submit(numbers(450))

    async def under_way() -> bool:
        return run.simulator.counts.accepted >= 150

    async with run.work():
        await until(under_way)
        yield batch
        assert await run.finished(batch) == {"sent": 450}
    assert run.arrived().keys() == run.ids(batch, 450)
    assert await run.is_empty()


async def test_the_master_is_killed(store_nodes: Watched, run: Campaign) -> None:
    async with in_mid_campaign(run):
        await until(lambda: in_sync(store_nodes.master, [store_nodes.replica]))
        await store_nodes.master.end()
        await until(lambda: store_nodes.serves(store_nodes.replica))
        await until(lambda: listened_to(store_nodes.replica))


async def test_a_master_that_was_replaced_is_left(store_nodes: Watched, run: Campaign) -> None:
    """It goes on as a master for a while."""

    async def used() -> bool:
        return "cmdstat_evalsha" in await store_nodes.replica.ask("INFO", "commandstats")

    async with in_mid_campaign(run):
        await store_nodes.replica.ask("CONFIG", "RESETSTAT")
        await store_nodes.sentinels[0].ask("SENTINEL", "FAILOVER", "mymaster")
        await until(used)
        assert (await store_nodes.master.ask("ROLE"))[0] == b"master"


class Stale(Directory):
    """Names a server, whatever it is by now."""

    def __init__(self, named: Where) -> None:
        super().__init__((), (), connection=aioredis.Connection, options={})
        self._named = named

    async def discover_master(self, _service: str) -> Where:
        return self._named


async def test_a_server_that_is_no_master_gets_no_command(store_nodes: Watched) -> None:
    directory = Stale(("127.0.0.1", store_nodes.replica.port))
    pool = master_pool(directory, tls=False, options={"password": ADMIN})
    async with aioredis.Redis.from_pool(pool) as client:
        with pytest.raises(NoConnection, match="is no longer the master"):
            await client.get("d:control:{main}")
    used = await store_nodes.replica.ask("INFO", "commandstats")
    assert "cmdstat_role" in used
    assert "cmdstat_get" not in used


async def test_a_wrong_login_is_said_at_once(store_nodes: Watched) -> None:
    for key in ("password", "sentinel_password"):
        async with connect(store_nodes.url, {**LOGIN, key: "wrong"}) as client:
            with pytest.raises(ConfigError, match=r"refuses the login or a command: .*password"):
                await reach(client, None)
