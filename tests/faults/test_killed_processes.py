"""Workers and the store are killed in mid-campaign."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from dispatcher.config import load
from dispatcher.simulator import Simulator
from dispatcher.store.embedded import EmbeddedStore
from dispatcher.store.opening import open_store
from tests.campaign import SID, Campaign, numbers, twilio, until
from tests.faults.workers import drain, held_by, registered, worker

Write = Callable[[str], Path]
Start = Callable[[str], Campaign]
QUICK = '[retry]\nbase = "1ms"\nmax = "5ms"\n[worker]\nlease = "1500ms"\n'


async def accepted(simulator: Simulator, count: int) -> None:
    async def there() -> bool:
        return simulator.counts.accepted >= count

    await until(there)


async def kill_one_of_two(run: Campaign, path: Path, rule: str) -> tuple[dict[str, int], str, int]:
    """Kill a worker in mid-campaign while another goes on: the final counts, the batch, and how
    many messages the dead worker had been granted and not settled."""
    run.simulator.change_account(f"twilio/{SID}", latency={"mean": 0.3})
    batch = await run.submit(numbers(900), class_="normal" if rule == "resend" else "bulk")
    with worker(path) as one, worker(path) as other:
        await registered(run.store, 2)
        await accepted(run.simulator, 250)
        busy = [await held_by(run.store, process) for process in (one, other)]
        assert max(busy) > 0
        killed, left = (one, other) if busy[0] > busy[1] else (other, one)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        granted = await held_by(run.store, killed)
        counts = await run.finished(batch)
        assert await drain(left) == 0
    return counts, batch, granted


async def test_a_killed_worker_and_resend(
    campaign: Start, config_file: Write, simulator_url: str
) -> None:
    toml = twilio(simulator_url, rate="300/s", on_unknown="resend") + QUICK
    run = campaign(toml)
    counts, batch, granted = await kill_one_of_two(run, config_file(toml), "resend")
    assert counts == {"sent": 900}
    arrived = run.arrived()
    assert arrived.keys() == run.ids(batch, 900)
    assert max(arrived.values()) <= 2
    assert 0 < arrived.total() - 900 <= granted
    assert await run.is_empty()


async def test_a_killed_worker_and_hold(
    campaign: Start, config_file: Write, simulator_url: str
) -> None:
    toml = twilio(simulator_url, rate="300/s", on_unknown="hold") + QUICK
    run = campaign(toml)
    counts, batch, granted = await kill_one_of_two(run, config_file(toml), "hold")
    assert counts.keys() == {"sent", "unknown"}
    assert sum(counts.values()) == 900
    assert counts["unknown"] <= granted
    arrived, listed = run.arrived(), (await run.letters()).keys()
    assert set(arrived.values()) == {1}
    assert len(listed) == counts["unknown"]
    assert arrived.keys() | listed == run.ids(batch, 900)
    assert await run.is_empty()


async def test_sigterm_returns_what_is_unsent_and_settles_the_rest(
    campaign: Start, config_file: Write, simulator_url: str
) -> None:
    toml = twilio(simulator_url, rate="100/s")
    run = campaign(toml)
    run.simulator.change_account(f"twilio/{SID}", latency={"mean": 0.2})
    batch = await run.submit(numbers(120), class_="bulk")
    with worker(config_file(toml)) as process:
        await accepted(run.simulator, 30)
        assert await drain(process) == 0
    counts = await run.counts(batch)
    assert counts.keys() == {"sent", "queued"}
    assert counts["sent"] == run.simulator.counts.accepted == run.simulator.counts.requests
    assert await run.store.inspector.workers() == 0
    held = [key async for key in run.store.client.scan_iter(run.store.keys.name("held", "*"), 1000)]
    assert held == []
    run.simulator.change_account(f"twilio/{SID}", latency={"mean": 0})
    async with run.work():
        assert await run.finished(batch) == {"sent": 120}
    run.assert_each_arrived_once((batch, 120))


async def test_the_store_is_killed_and_comes_back(
    tmp_path: Path, simulator: Simulator, simulator_url: str
) -> None:
    toml = f'[store]\ndata_dir = "{tmp_path}/data"\n' + twilio(simulator_url, rate="300/s")
    path = tmp_path / "dispatcher.toml"
    path.write_text(toml)
    config = load(path, {})
    with EmbeddedStore.join(tmp_path / "data") as embedded:
        async with open_store(config.store) as store:
            run = Campaign(config, store, simulator)
            batch = await run.submit(numbers(900), class_="bulk")
        with worker(path) as process:
            for count in (200, 500):
                await accepted(simulator, count)
                await kill_server(embedded)
            async with open_store(config.store, patience=10) as store:
                run = Campaign(config, store, simulator)
                assert await run.finished(batch) == {"sent": 900}
                assert await drain(process) == 0
                assert await run.is_empty()
    run.assert_each_arrived_once((batch, 900))


async def kill_server(embedded: EmbeddedStore) -> None:
    server = embedded.server_pid()
    assert server is not None
    os.kill(server, signal.SIGKILL)

    async def replaced() -> bool:
        return await asyncio.to_thread(embedded.server_pid) not in (None, server)

    await until(replaced)
