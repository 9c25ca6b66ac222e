"""Several workers under one supervisor: killed, drained, told to read the configuration again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from dispatcher.config import load
from dispatcher.simulator import Simulator
from dispatcher.store.opening import Store, open_store
from tests.campaign import SID, Campaign, numbers, twilio, until
from tests.cli.command import Commands
from tests.ports import free_port

LONG_LEASE = '[worker]\nprocesses = 2\nlease = "10m"\nport = {}\n'
"""Nothing a test waits for can be the end of such a lease."""


class Member(NamedTuple):
    """One worker as its name in the store tells it."""

    number: int
    pid: int
    held: int


async def members(store: Store) -> list[Member]:
    """The workers registered now; `held` is the messages they may have sent and not settled."""
    found = []
    for name in await store.client.zrange(store.keys.name("workers"), 0, -1):
        worker = name.decode()
        fields = await store.client.hgetall(store.keys.name("held", worker))
        held = sum(int(value) for field, value in fields.items() if not field.startswith(b"#"))
        pid, number = worker.split(".")[-4:-2]
        found.append(Member(int(number), int(pid), held))
    return sorted(found)


async def registered(store: Store, *without: int) -> list[Member]:
    """Both workers, once they have registered with other process ids than these."""

    async def there() -> bool:
        found = await members(store)
        return [member.number for member in found] == [1, 2] and not (
            {member.pid for member in found} & set(without)
        )

    await until(there)
    return await members(store)


async def accepted(simulator: Simulator, count: int) -> None:
    async def there() -> bool:
        return simulator.counts.accepted >= count

    await until(there)


async def gone(*pids: int) -> None:
    """Wait until these processes have ended. Somebody else's children: a zombie has ended."""

    async def there() -> bool:
        return not any(running(pid) for pid in pids)

    await until(there)


def running(pid: int) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return shown.stdout.strip() not in ("", "Z", "Zs")


async def ready(port: int) -> None:
    """Wait until the probes on this port say so."""

    def answered() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return True
        except OSError:
            return False

    await until(lambda: asyncio.to_thread(answered))


def messages(err: list[str]) -> list[str]:
    return [msgspec.json.decode(line)["message"] for line in err]


async def test_what_a_killed_worker_held_is_sent_by_the_other_at_once(
    commands: Commands, simulator: Simulator, simulator_url: str, tmp_path: Path
) -> None:
    """In an embedded store of their own, which the workers open."""
    port = free_port(in_a_row=2)
    toml = twilio(simulator_url, rate="300/s", on_unknown="resend") + LONG_LEASE.format(port)
    path = commands.write("dispatcher.toml", f'[store]\ndata_dir = "{tmp_path}/own"\n{toml}')
    simulator.change_account(f"twilio/{SID}", latency={"mean": 0.3})
    crew = commands.start("worker", group=True)
    await asyncio.gather(ready(port), ready(port + 1))
    server = (tmp_path / "own" / "server.pid").read_text()
    async with open_store(load(path, {}).store) as store:
        run = Campaign(load(path, {}), store, simulator)
        batch = await run.submit(numbers(600))
        await accepted(simulator, 150)
        before = await registered(store)
        killed = max(before, key=lambda member: member.held)
        os.kill(killed.pid, signal.SIGSTOP)
        await asyncio.sleep(0.1)  # what it has written by now counts
        granted = {member.pid: member.held for member in await members(store)}[killed.pid]
        os.kill(killed.pid, signal.SIGKILL)
        await registered(store, killed.pid)
        await asyncio.gather(ready(port), ready(port + 1))
        assert await run.finished(batch) == {"sent": 600}
        os.killpg(crew.pid, signal.SIGINT)
        result = await commands.ended(crew)
        assert await run.is_empty()
        assert (tmp_path / "own" / "server.pid").read_text() == server
    assert result.code == 0
    arrived = run.arrived()
    assert arrived.keys() == run.ids(batch, 600)
    assert max(arrived.values()) <= 2
    assert 0 < arrived.total() - 600 <= granted
    log = messages(result.err)
    assert f"worker {killed.number} ended by SIGKILL, next start in 0.5 s" in log
    assert any("messages put back" in line for line in log)


async def test_sighup_and_sigterm_reach_every_worker(
    commands: Commands,
    config_file: Callable[[str], Path],
    campaign: Callable[[str], Campaign],
    simulator_url: str,
) -> None:
    toml = LONG_LEASE.format(0)
    config_file(twilio(simulator_url, rate="1/s") + toml)
    run = campaign(twilio(simulator_url, rate="1/s") + toml)
    run.simulator.change_account(f"twilio/{SID}", latency={"mean": 0.2})
    batch = await run.submit(numbers(400))
    crew = commands.start("worker")
    await registered(run.store)
    config_file(twilio(simulator_url, rate="100/s") + toml)
    crew.send_signal(signal.SIGHUP)
    await accepted(run.simulator, 60)
    pids = [member.pid for member in await registered(run.store)]
    crew.terminate()
    result = await commands.ended(crew)
    assert result.code == 0
    assert not any(map(running, pids))
    counts = await run.counts(batch)
    assert counts == {"sent": run.simulator.counts.accepted, "queued": 400 - counts["sent"]}
    assert set(run.arrived().values()) == {1}
    assert await run.store.inspector.workers() == 0
    log = messages(result.err)
    for number in (1, 2):
        assert f"worker {number}: configuration reloaded" in log
    assert all(line.startswith(("worker 1: ", "worker 2: ")) for line in log)


async def test_workers_outlive_a_killed_supervisor_only_to_drain(
    commands: Commands,
    config_file: Callable[[str], Path],
    campaign: Callable[[str], Campaign],
    simulator_url: str,
) -> None:
    toml = twilio(simulator_url, rate="100/s") + LONG_LEASE.format(0)
    config_file(toml)
    run = campaign(toml)
    run.simulator.change_account(f"twilio/{SID}", latency={"mean": 0.2})
    batch = await run.submit(numbers(400))
    crew = commands.start("worker")
    pids = [member.pid for member in await registered(run.store)]
    await accepted(run.simulator, 30)
    crew.kill()
    await gone(*pids)
    counts = await run.counts(batch)
    assert counts == {"sent": run.simulator.counts.accepted, "queued": 400 - counts["sent"]}
    assert set(run.arrived().values()) == {1}
    assert await run.store.inspector.workers() == 0


async def test_a_second_ctrl_c_ends_at_once(
    commands: Commands,
    config_file: Callable[[str], Path],
    campaign: Callable[[str], Campaign],
    simulator_url: str,
) -> None:
    toml = twilio(simulator_url, rate="100/s") + LONG_LEASE.format(0)
    config_file(toml)
    run = campaign(toml)
    run.simulator.change_account(f"twilio/{SID}", latency={"mean": 1.5})
    await run.submit(numbers(50))
    crew = commands.start("worker", group=True)
    pids = [member.pid for member in await registered(run.store)]
    await accepted(run.simulator, 1)
    while crew.poll() is None:
        os.killpg(crew.pid, signal.SIGINT)
        await asyncio.sleep(0.1)
    assert (await commands.ended(crew)).code == 130
    await gone(*pids)
    assert await run.store.inspector.workers() == 0


async def test_run_gives_its_workers_a_port_each(
    commands: Commands, config_file: Callable[[str], Path], store: Store, simulator_url: str
) -> None:
    port = free_port(in_a_row=2)
    config_file(twilio(simulator_url) + LONG_LEASE.format(port))
    crew = commands.start("run", "--port", "0")
    await asyncio.gather(ready(port), ready(port + 1))
    killed = (await registered(store))[0]
    os.kill(killed.pid, signal.SIGKILL)
    await registered(store, killed.pid)
    await ready(port)
    crew.terminate()
    result = await commands.ended(crew)
    assert result.code == 0
    assert "worker 1 ended by SIGKILL, next start in 0.5 s" in messages(result.err)
    assert await store.inspector.workers() == 0


@pytest.mark.parametrize("command", [("worker",), ("run", "--port", "0")])
def test_every_worker_needs_a_port(
    commands: Commands, config_file: Callable[[str], Path], command: tuple[str, ...]
) -> None:
    config_file(twilio("http://127.0.0.1:9") + LONG_LEASE.format(65535))
    result = commands.run(*command)
    assert result.code == 2
    (line,) = result.err
    assert "worker.port 65535 leaves no ports for 2 processes" in line
