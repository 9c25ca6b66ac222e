"""How a worker learns that something has changed, also when an announcement never comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from dispatcher.engine.maintenance import Changes
from dispatcher.engine.outage import Outage
from dispatcher.engine.pump import Pump
from dispatcher.settings import StoreConfig
from dispatcher.store.control import Control
from dispatcher.store.opening import Store
from tests.campaign import until

ANNOUNCE = """
redis.call('INCR', KEYS[1])
redis.call('PUBLISH', KEYS[1], ARGV[1])
"""


class Told:
    """Stands where a pump is told what has changed."""

    def __init__(self) -> None:
        self.what: list[str] = []

    def control(self, what: str) -> None:
        self.what.append(what)

    async def about(self, *what: str) -> None:
        """Wait until it was told exactly this."""

        async def complete() -> bool:
            return len(self.what) >= len(what)

        await until(complete)
        assert self.what == list(what)


@pytest.fixture
def store_config(store_server: StoreConfig, tmp_path: object) -> StoreConfig:
    """A store of its own: a test here cuts connections of the server."""
    return StoreConfig(data_dir=f"{tmp_path}/store")


@asynccontextmanager
async def listening(store: Store, told: Told) -> AsyncIterator[Changes]:
    pumps = {"p": cast(Pump, told)}
    changes = Changes(Control(store.blocking, store.keys), "w1", pumps, Outage())
    task = asyncio.create_task(changes.run())
    try:
        await until(lambda: subscribed(store))
        yield changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        changes.close()


async def subscribed(store: Store) -> bool:
    ((_, count),) = await store.client.pubsub_numsub(store.keys.name("control"))
    return bool(count == 1)


async def announce(store: Store, text: str) -> None:
    await store.client.eval(ANNOUNCE, 1, store.keys.name("control"), text)


async def number(store: Store) -> int:
    return (await store.queue.heartbeat("clock", first=True)).control


async def test_what_others_announce_reaches_the_pumps(store: Store) -> None:
    told = Told()
    async with listening(store, told):
        await announce(store, "provider:p lane:p/sms/a")
        await announce(store, "by:w2 carrier:b")
        await announce(store, "*")
        await told.about("provider:p lane:p/sms/a", "carrier:b", "*")


async def test_a_worker_is_not_told_of_its_own_pauses(store: Store) -> None:
    told = Told()
    async with listening(store, told) as changes:
        await announce(store, "by:w1 provider:p")
        await announce(store, "by:w2 provider:p")
        await told.about("provider:p")
        changes.numbered(await number(store))
        await announce(store, "provider:q")
        await told.about("provider:p", "provider:q")


async def test_a_number_without_its_announcement_is_about_everything(store: Store) -> None:
    told = Told()
    async with listening(store, told) as changes:
        await store.client.incr(store.keys.name("control"))
        changes.numbered(await number(store))
        await told.about("*")
        await announce(store, "provider:p")
        changes.numbered(await number(store))
        await told.about("*", "provider:p")


async def test_what_happened_before_the_first_connection_is_made_good(store: Store) -> None:
    told = Told()
    pumps = {"p": cast(Pump, told)}
    changes = Changes(Control(store.blocking, store.keys), "w1", pumps, Outage())
    changes.numbered(await number(store))
    await announce(store, "provider:p")
    task = asyncio.create_task(changes.run())
    await told.about("*")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_answer_that_overtakes_its_announcement_is_waited_for(store: Store) -> None:
    told = Told()
    async with listening(store, told) as changes:
        changes.numbered(await number(store) + 1)
        await announce(store, "provider:p")
        await told.about("provider:p")
        await store.client.incr(store.keys.name("control"))
        changes.numbered(await number(store))
        await told.about("provider:p", "*")


async def test_an_emptied_store_counts_from_the_beginning(store: Store) -> None:
    told = Told()
    async with listening(store, told) as changes:
        for name in ("a", "b", "c"):
            await announce(store, name)
        await told.about("a", "b", "c")
        await store.client.flushall()
        changes.numbered(await number(store))
        await store.client.incr(store.keys.name("control"))
        changes.numbered(await number(store))
        await told.about("a", "b", "c", "*")


async def test_what_happened_while_the_connection_was_lost_is_made_good(store: Store) -> None:
    told = Told()
    async with listening(store, told):
        async with store.client.pipeline(transaction=True) as pipe:
            pipe.client_kill_filter(_type="pubsub")
            pipe.incr(store.keys.name("control"))
            await pipe.execute()
        await told.about("*")
        await until(lambda: subscribed(store))
        await announce(store, "provider:p")
        await told.about("*", "provider:p")
