"""The store forgets something, runs a call late, or has given a worker up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from dispatcher.engine.runtime import Worker
from dispatcher.settings import StoreConfig
from dispatcher.store.keys import Keys
from dispatcher.store.opening import Store, open_store
from tests.campaign import Campaign, numbers, twilio, until

Start = Callable[[str], Campaign]
QUICK = '[worker]\nlease = "1500ms"\n'


async def worker_name(run: Campaign) -> str:
    (name,) = await run.store.client.zrange(run.store.keys.name("workers"), 0, -1)
    return str(name.decode())


async def accepted(run: Campaign, count: int) -> None:
    async def there() -> bool:
        return run.simulator.counts.accepted >= count

    await until(there)


async def test_a_claim_given_up_for_lost_runs_late(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url, rate="200/s") + QUICK)
    batch = await run.submit(numbers(300), class_="bulk")
    async with run.work():
        await accepted(run, 20)
        late = await run.store.queue.claim("twilio", await worker_name(run), 500, 10, [])
        while not late.grants:
            late = await run.store.queue.claim("twilio", await worker_name(run), 500, 10, [])
        assert await run.finished(batch) == {"sent": 300}
    run.assert_each_arrived_once((batch, 300))


async def test_a_worker_given_up_starts_anew(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url, rate="200/s") + QUICK)
    batch = await run.submit(numbers(400), class_="bulk")
    async with run.work():
        await accepted(run, 50)
        name = await worker_name(run)
        await run.store.queue.heartbeat("other", first=True)
        beat = (await run.store.queue.heartbeat("other")).beats[name]
        assert await run.store.queue.reclaim_dead(name, beat, 0.0) > 0
        await run.store.queue.leave("other")
        counts = await run.finished(batch)
        assert await worker_name(run) != name
    assert sum(counts.values()) == 400
    assert counts.keys() == {"sent", "unknown"}
    listed = (await run.letters()).keys()
    assert len(listed) == counts["unknown"]
    assert set(run.arrived().values()) == {1}
    assert run.arrived().keys() | listed == run.ids(batch, 400)


async def test_a_forgotten_limit_is_written_back(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url, rate="300/s"))
    batch = await run.submit(numbers(300))
    async with run.work():
        await accepted(run, 20)
        await run.store.client.delete(run.store.keys.name("limit", "provider:twilio"))
        assert await run.finished(batch) == {"sent": 300}
    run.assert_each_arrived_once((batch, 300))
    state = await run.store.client.hget(run.store.keys.name("limit", "provider:twilio"), "interval")
    assert float(state) == pytest.approx(1e6 / 300)


async def test_the_limits_of_a_lane_are_written_back(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url))
    batch = await run.submit(numbers(30))
    (lane,) = await run.store.inspector.lane_names(["twilio"])
    await run.store.client.hdel(run.store.keys.name("lane", lane), "limits")
    async with run.work():
        assert await run.finished(batch) == {"sent": 30}
    (view,) = await run.store.inspector.lanes([lane])
    assert view.limits == ("provider:twilio",)


@pytest.fixture
async def absent_store(store: Store) -> AsyncIterator[Store]:
    """A store that has gone away."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = StoreConfig(url=f"redis://127.0.0.1:{port}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dispatcher.store.opening.reach", no_wait)
        patch.setattr("dispatcher.store.opening.remembered", as_configured)
        async with open_store(config) as absent:
            server.close()
            yield absent


async def no_wait(client: object, patience: float | None) -> None:
    """The store is there when the process starts."""


async def as_configured(client: object, keys: Keys) -> Keys:
    """It has no cells beside those of the configuration."""
    return keys


async def test_a_worker_that_waits_for_its_store_can_be_stopped(
    campaign: Start, simulator_url: str, absent_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    run = campaign(twilio(simulator_url))
    stop = asyncio.Event()
    task = asyncio.create_task(Worker(run.config, absent_store).run(stop))
    async with asyncio.timeout(5):
        while "waiting" not in caplog.text:
            await asyncio.sleep(0.01)
        stop.set()
        await task
    assert run.simulator.counts.connections == 0
