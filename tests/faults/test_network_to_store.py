"""The way to the store is bad: replies are dropped, connections cut, slow or half open. Everything
is sent once, by workers that need no help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.settings import StoreConfig
from dispatcher.store import bell, connection
from dispatcher.store.opening import Store, open_store
from tests.campaign import Campaign, numbers, twilio
from tests.faults.proxy import Proxy

Start = Callable[[str], Campaign]
Disturb = Callable[[Proxy], Awaitable[None]]


@pytest.fixture
async def proxy(store: Store) -> AsyncIterator[Proxy]:
    async with Proxy(store) as proxy:
        yield proxy


@pytest.fixture
async def far_store(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """The same store through the proxy; what does not answer is given up sooner."""
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(connection, "BLOCKED_SECONDS", 1.5)
    async with open_store(StoreConfig(url=proxy.url, prefix=store.keys.prefix)) as far:
        yield far


async def drop(proxy: Proxy) -> None:
    proxy.drop(0.2, seed=1)
    await asyncio.sleep(1)
    proxy.drop(0)
    assert proxy.lost


async def cut(proxy: Proxy) -> None:
    cuts = 0
    for _ in range(10):
        cuts += proxy.cut()
        await asyncio.sleep(0.1)
    assert cuts > 10


async def delay(proxy: Proxy) -> None:
    proxy.delay = 0.04
    await asyncio.sleep(1)
    proxy.delay = 0.0


async def half_open(proxy: Proxy) -> None:
    proxy.freeze()
    await asyncio.sleep(1)
    proxy.thaw()


@pytest.mark.parametrize("disturb", [drop, cut, delay, half_open])
async def test_a_campaign(
    disturb: Disturb, campaign: Start, simulator_url: str, proxy: Proxy, far_store: Store
) -> None:
    run = campaign(twilio(simulator_url, rate="400/s") + '[worker]\nlease = "2s"\n')
    batch = await run.submit(numbers(600), class_="bulk")
    async with Campaign(run.config, far_store, run.simulator).work():
        await asyncio.sleep(0.3)
        await disturb(proxy)
        assert await run.finished(batch) == {"sent": 600}
    run.assert_each_arrived_once((batch, 600))
    assert await run.is_empty()


async def test_a_bell_on_a_dead_connection_is_heard_again(
    store: Store, proxy: Proxy, far_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell, "WAIT_SECONDS", 1)
    far = bell.Bell(far_store.blocking, far_store.keys, ["p"])
    waiting = asyncio.create_task(far.rung())
    await asyncio.sleep(0.1)
    proxy.freeze()
    with pytest.raises(StoreUnavailable):
        await waiting
    proxy.thaw()
    await store.client.rpush(store.keys.name("bell", "p"), "1")
    assert await far.rung() == "p"
