"""A reply of each script gets lost on its way: nothing is lost, nothing is sent twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from dispatcher.engine.ingest import Recipient
from dispatcher.limits import Limit
from dispatcher.settings import Config, StoreConfig
from dispatcher.store.opening import Store, open_store
from tests.campaign import Campaign, numbers, twilio
from tests.faults.proxy import Proxy

Start = Callable[[str], Campaign]


@pytest.fixture
async def proxy(store: Store) -> AsyncIterator[Proxy]:
    async with Proxy(store) as proxy:
        yield proxy


@pytest.fixture
async def far_store(store: Store, proxy: Proxy) -> AsyncIterator[Store]:
    """The same store, through the proxy."""
    async with open_store(StoreConfig(url=proxy.url, prefix=store.keys.prefix)) as far:
        yield far


def behind_proxy(run: Campaign, far_store: Store) -> Campaign:
    return Campaign(run.config, far_store, run.simulator)


@pytest.mark.parametrize(
    ("script", "every", "times"),
    [
        ("claim", 1, 1),
        ("claim", 3, 5),
        ("settle", 1, 1),
        ("settle", 2, 5),
        ("heartbeat", 2, 2),
        ("limits", 1, 1),
    ],
)
async def test_in_a_campaign(
    campaign: Start,
    simulator_url: str,
    proxy: Proxy,
    far_store: Store,
    script: str,
    every: int,
    times: int,
) -> None:
    run = campaign(twilio(simulator_url, rate="400/s") + '[worker]\nlease = "1s"\n')
    batch = await run.submit(numbers(600), class_="bulk")
    await proxy.lose(script, every, times)
    async with behind_proxy(run, far_store).work():
        assert await run.finished(batch) == {"sent": 600}
    assert proxy.lost >= 1
    run.assert_each_arrived_once((batch, 600))
    assert await run.is_empty()


async def test_of_an_enqueue(
    campaign: Start, simulator_url: str, proxy: Proxy, far_store: Store
) -> None:
    run = campaign(twilio(simulator_url))
    opened = run.open()
    batch = opened.envelope.batch
    heard: list[str] = []
    for first in (0, 500, 1000):
        await proxy.lose("enqueue")
        listed = [Recipient(first + n, to) for n, to in enumerate(numbers(500))]
        part = opened.part(first, listed)
        answer = await opened.enqueue_patiently(far_store.queue, part, 5, heard.append)
        assert answer.repeated
        assert answer.check == part.check
    assert (proxy.lost, len(heard)) == (3, 3)
    async with run.work():
        assert await run.finished(batch) == {"sent": 1500}
    run.assert_each_arrived_once((batch, 1500))


async def test_of_the_reclaim_after_a_lost_claim(
    campaign: Start, simulator_url: str, proxy: Proxy, far_store: Store
) -> None:
    run = campaign(twilio(simulator_url, rate="400/s"))
    batch = await run.submit(numbers(300), class_="bulk")
    claim, losses = far_store.queue.claim, iter([True, False, True])

    async def losing(*given: object) -> object:
        if next(losses, False):
            await proxy.lose("claim")
            try:
                return await claim(*given)  # type: ignore[arg-type]
            finally:
                await proxy.lose("reclaim")
        return await claim(*given)  # type: ignore[arg-type]

    far_store.queue.claim = losing  # type: ignore[assignment,method-assign]
    async with behind_proxy(run, far_store).work():
        assert await run.finished(batch) == {"sent": 300}
    assert proxy.lost == 4
    run.assert_each_arrived_once((batch, 300))
    assert await run.is_empty()


async def test_of_the_reclaim_from_a_dead_worker(
    campaign: Start, simulator_url: str, store: Store, proxy: Proxy, far_store: Store
) -> None:
    run = campaign(twilio(simulator_url) + '[worker]\nlease = "1s"\n')
    batch = await run.submit(numbers(300), class_="normal")
    await store.queue.write_limits([Limit("provider:twilio")])
    await store.queue.heartbeat("dead", first=True)
    claim = await store.queue.claim("twilio", "dead", 200, 10, [])
    assert sum(grant.count for grant in claim.grants) == 200
    await proxy.lose("reclaim", every=1, times=1)
    async with behind_proxy(run, far_store).work(patient(run.config)):
        assert await run.finished(batch) == {"sent": 300}
    assert proxy.lost == 1
    run.assert_each_arrived_once((batch, 300))
    assert (await run.view(batch)).events["retried"] == 200


def patient(config: Config) -> Config:
    """What may have been sent is sent again at once."""
    retry = msgspec.structs.replace(config.retry, base=0.001, max=0.001)
    return msgspec.structs.replace(config, retry=retry)


async def test_of_the_farewell(
    campaign: Start, simulator_url: str, proxy: Proxy, far_store: Store
) -> None:
    run = campaign(twilio(simulator_url, rate="20/s") + '[worker]\nlease = "1s"\n')
    batch = await run.submit(numbers(30), class_="bulk")
    async with behind_proxy(run, far_store).work():
        await proxy.lose("reclaim")
    async with run.work():
        assert await run.finished(batch) == {"sent": 30}
    run.assert_each_arrived_once((batch, 30))
