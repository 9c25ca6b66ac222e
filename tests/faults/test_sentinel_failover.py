"""A store behind Sentinel: the master dies, or another one is made the master."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dispatcher.config import load
from dispatcher.errors import StoreUnavailable
from dispatcher.simulator import Simulator
from dispatcher.store.embedded import find_server
from dispatcher.store.opening import open_store
from tests.campaign import Campaign, numbers, twilio, until
from tests.faults.nodes import QUICK, Node, free_port, in_sync, nodes

ADMIN = "admin-password"
RIGHTS = (
    "~d:* &d:* +@hash +@sortedset +@set +@list +@stream +@string +@keyspace +@scripting +@pubsub "
    "+@connection -@dangerous +time +role"
)
"""What a worker needs; docs/store.md says the same."""
LOGIN = 'username = "worker"\npassword = "worker-password"\n'
WATCH = 'sentinel_username = "asker"\nsentinel_password = "asker-password"\n'


class Watched(NamedTuple):
    master: Node
    replica: Node
    sentinel: Node

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}/mymaster"


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    """A master and its replica, watched by a sentinel, where everybody has to log in."""
    program = find_server()
    lines = (
        *QUICK,
        f"requirepass {ADMIN}",
        f"masterauth {ADMIN}",
        f"user worker on >worker-password {RIGHTS}",
    )
    async with nodes(tmp_path, password=ADMIN) as running:
        master = await running.start(program, *lines)
        replica = await running.start(program, *lines, f"replicaof 127.0.0.1 {master.port}")
        await until(lambda: in_sync(master, [replica]))
        sentinel = await running.sentinel(
            program,
            master,
            f"sentinel auth-pass mymaster {ADMIN}",
            f"requirepass {ADMIN}",
            "user asker on >asker-password +sentinel|get-master-addr-by-name",
        )
        yield Watched(master, replica, sentinel)


async def promoted(watched: Watched) -> None:
    async def named() -> bool:
        named = await watched.sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        return int(named[1]) == watched.replica.port

    await until(named)


async def test_the_master_is_killed(
    watched: Watched, tmp_path: Path, simulator: Simulator, simulator_url: str
) -> None:
    path = tmp_path / "dispatcher.toml"
    store_table = f'[store]\nurl = "{watched.url}"\n{LOGIN}{WATCH}'
    path.write_text(f"{store_table}{twilio(simulator_url, rate='300/s')}")
    config = load(path, {})
    async with open_store(config.store) as store:
        run = Campaign(config, store, simulator)
        batch = await run.submit(numbers(600))

        async def under_way() -> bool:
            return simulator.counts.accepted >= 200

        async with run.work():
            await until(under_way)
            await until(lambda: in_sync(watched.master, [watched.replica]))
            await watched.master.end()
            with pytest.raises(StoreUnavailable):
                await run.counts(batch)
            await promoted(watched)
            assert await run.finished(batch) == {"sent": 600}
        assert run.arrived().keys() == run.ids(batch, 600)
        assert await run.is_empty()
