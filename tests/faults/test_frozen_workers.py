"""Workers and the store stop answering for a while, and go on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from dispatcher import metrics
from dispatcher.config import load
from dispatcher.simulator import Simulator
from dispatcher.store.embedded import EmbeddedStore
from dispatcher.store.opening import Store, open_store
from tests.campaign import SID, Campaign, numbers, twilio, until, webhook
from tests.faults.workers import drain, held_by, registered, worker

Write = Callable[[str], Path]
Start = Callable[[str], Campaign]
SHORT = '[worker]\nlease = "1500ms"\n'


async def names(store: Store) -> set[str]:
    found = await store.client.zrange(store.keys.name("workers"), 0, -1)
    return {name.decode() for name in found}


async def accepted(run: Campaign, count: int) -> None:
    async def there() -> bool:
        return run.simulator.counts.accepted >= count

    await until(there)


async def test_frozen_for_longer_than_its_lease_a_worker_sends_nothing_more_of_what_it_held(
    campaign: Start, config_file: Write, simulator_url: str
) -> None:
    """Without a rate it holds messages with slots that never lapse."""
    toml = twilio(simulator_url, concurrency=20, on_unknown="hold") + SHORT
    run = campaign(toml)
    run.simulator.change_account(f"twilio/{SID}", latency={"mean": 0.05})
    batch = await run.submit(numbers(400), class_="bulk")
    with worker(config_file(toml)) as frozen:
        await registered(run.store, 1)
        (name,) = await names(run.store)
        await accepted(run, 40)
        os.kill(frozen.pid, signal.SIGSTOP)
        assert await held_by(run.store, frozen) > 0
        async with run.work():

            async def taken_over() -> bool:
                return name not in await names(run.store)

            await until(taken_over)
            woken_ns = time.monotonic_ns()
            os.kill(frozen.pid, signal.SIGCONT)
            await registered(run.store, 2)
            assert name not in await names(run.store)
            counts = await run.finished(batch)
            assert await drain(frozen) == 0
    assert counts.keys() <= {"sent", "unknown"}
    assert counts["unknown"] > 0
    unknown = (await run.letters()).keys()
    late = {
        entry.message
        for entry in run.simulator.journal.entries()
        if entry.event == "accepted" and entry.arrived_ns > woken_ns
    }
    assert not late & unknown
    assert set(run.arrived().values()) == {1}
    assert run.arrived().keys() | unknown == run.ids(batch, 400)
    assert await run.is_empty()


async def test_frozen_for_less_a_worker_goes_on(
    campaign: Start, config_file: Write, simulator_url: str
) -> None:
    toml = twilio(simulator_url, rate="300/s") + '[worker]\nlease = "6s"\n'
    run = campaign(toml)
    batch = await run.submit(numbers(300), class_="bulk")
    with worker(config_file(toml)) as frozen:
        async with run.work():
            await registered(run.store, 2)
            before = await names(run.store)
            await accepted(run, 60)
            os.kill(frozen.pid, signal.SIGSTOP)
            await asyncio.sleep(0.5)
            os.kill(frozen.pid, signal.SIGCONT)
            assert await run.finished(batch) == {"sent": 300}
            assert await names(run.store) == before
            assert await drain(frozen) == 0
    run.assert_each_arrived_once((batch, 300))


async def test_a_frozen_store_makes_nobody_take_over(
    tmp_path: Path, simulator: Simulator, simulator_url: str
) -> None:
    toml = webhook(simulator_url, rate="200/s") + '[worker]\nlease = "2s"\n'
    path = tmp_path / "dispatcher.toml"
    path.write_text(f'[store]\ndata_dir = "{tmp_path}/data"\n' + toml)
    config, reclaimed = load(path, {}), metrics.RECLAIMED._value.get()
    with EmbeddedStore.join(tmp_path / "data") as embedded:
        server = embedded.server_pid()
        assert server is not None
        async with open_store(config.store) as store, AsyncExitStack() as stack:
            run = Campaign(config, store, simulator)
            batch = await run.submit(numbers(300))
            for _ in range(3):
                await stack.enter_async_context(run.work())
            await registered(store, 3)
            before = await names(store)
            await accepted(run, 60)
            os.kill(server, signal.SIGSTOP)
            await asyncio.sleep(4)
            os.kill(server, signal.SIGCONT)
            assert await run.finished(batch) == {"sent": 300}
            assert await names(store) == before
    assert metrics.RECLAIMED._value.get() == reclaimed
    run.assert_each_arrived_once((batch, 300))
