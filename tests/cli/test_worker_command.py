"""`worker` as a process: its signals, and the store it shares."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from dispatcher.settings import StoreConfig
from dispatcher.simulator import Latency, Settings, Simulator, WebhookAccount
from dispatcher.store.opening import Store, open_store
from tests.cli.command import HI, SEND, Commands, batch_of, csv_of, number
from tests.cli.inside import Inside

HOOK = '[providers.hook]\nkind = "webhook"\nurl = "{}/webhook/demo"\nrate = "{}"\n'


@pytest.fixture
async def simulator() -> Simulator:
    """Takes its time to answer, so that there is always something in flight."""
    return Simulator(Settings((WebhookAccount(latency=Latency(0.3)),)))


async def eventually(true: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def logged(err: list[str], text: str) -> bool:
    return any(text in msgspec.json.decode(line)["message"] for line in err)


async def check_settled(store: Store, batch: str, simulator: Simulator) -> None:
    """Whatever arrived is settled as sent, the rest waits, and nobody wonders about any of it."""
    view = await store.inspector.batch(batch)
    assert view is not None
    arrived = [entry.message for entry in simulator.journal.entries()]
    assert 0 < len(arrived) == len(set(arrived)) < view.total
    assert view.counts["sent"] == len(arrived)
    assert view.counts["queued"] + view.counts["scheduled"] == view.total - len(arrived)
    assert await store.inspector.workers() == 0


async def test_sigterm_drains(
    commands: Commands,
    inside: Inside,
    config_file: Callable[[str], Path],
    simulator: Simulator,
    store: Store,
) -> None:
    config_file(HOOK.format(await simulator.start(), "50/s"))
    commands.write("rows.csv", csv_of(f"{number(i)},Ann" for i in range(500)))
    batch = (await inside.call("send", "rows.csv", *SEND, *HI)).batch
    worker = commands.start("worker")
    await eventually(lambda: len(simulator.journal) > 20)
    worker.terminate()
    result = await commands.ended(worker)
    assert result.code == 0
    assert logged(result.err, "drained")
    await check_settled(store, batch, simulator)


async def test_ctrl_c_drains_before_the_store_goes(
    commands: Commands, inside: Inside, simulator: Simulator, tmp_path: Path
) -> None:
    own = StoreConfig(data_dir=str(tmp_path / "own"))
    hook = HOOK.format(await simulator.start(), "50/s")
    commands.write("dispatcher.toml", f'[store]\ndata_dir = "own"\n{hook}')
    commands.write("rows.csv", csv_of(f"{number(i)},Ann" for i in range(500)))
    batch = (await inside.call("send", "rows.csv", *SEND, *HI)).batch
    worker = commands.start("worker", group=True)
    await eventually(lambda: len(simulator.journal) > 20)
    server = int((tmp_path / "own" / "server.pid").read_text())
    os.killpg(worker.pid, signal.SIGINT)
    assert (await commands.ended(worker)).code == 0
    await eventually(lambda: not alive(server))
    async with open_store(own) as store:
        await check_settled(store, batch, simulator)


async def test_sighup_reads_the_configuration_again(
    commands: Commands, inside: Inside, config_file: Callable[[str], Path], simulator: Simulator
) -> None:
    url = await simulator.start()
    path = config_file(HOOK.format(url, "1/s"))
    commands.write("rows.csv", csv_of(f"{number(i)},Ann" for i in range(300)))
    await inside.call("send", "rows.csv", *SEND, *HI)
    worker = commands.start("worker")
    await eventually(lambda: len(simulator.journal) == 1)
    path.write_text("[worker\n")
    worker.send_signal(signal.SIGHUP)
    await asyncio.to_thread(_read_until, worker, "the old one stays")
    config_file(HOOK.format(url, "5000/s"))
    worker.send_signal(signal.SIGHUP)
    await eventually(lambda: len(simulator.journal) == 300)
    worker.terminate()
    result = await commands.ended(worker)
    assert result.code == 0
    assert logged(result.err, "configuration reloaded")
    assert len({entry.message for entry in simulator.journal.entries()}) == 300


def _read_until(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line.decode():
            return
    raise AssertionError(f"the log ended without {text!r}")


async def test_sigterm_ends_a_worker_that_waits_for_its_store(
    commands: Commands, config_file: Callable[[str], Path]
) -> None:
    hook = HOOK.format("http://127.0.0.1:9", "50/s")
    commands.write("dispatcher.toml", f'[store]\nurl = "redis://:secret@127.0.0.1:1"\n{hook}')
    worker = commands.start("worker")
    line = "the store (redis://:***@127.0.0.1:1) does not answer yet; waiting"
    await asyncio.to_thread(_read_until, worker, line)
    worker.terminate()
    assert (await commands.ended(worker)).code == 0


async def test_the_store_of_a_send_goes_on_for_the_worker_that_joined(
    commands: Commands, simulator: Simulator, tmp_path: Path
) -> None:
    own = StoreConfig(data_dir=str(tmp_path / ".dispatcher"))
    commands.write("dispatcher.toml", HOOK.format(await simulator.start(), "5000/s"))
    send = commands.start("send", "-", *SEND, *HI, stdin=subprocess.PIPE)
    assert send.stdin is not None
    send.stdin.write(csv_of(f"{number(i)},Ann" for i in range(2000)).encode())
    send.stdin.flush()
    batch_of(send)
    server = int((tmp_path / ".dispatcher" / "server.pid").read_text())
    worker = commands.start("worker")
    await eventually(lambda: len(simulator.journal) > 0)
    send.stdin.write(f"{number(2000)},Bob\n".encode())
    assert (await commands.ended(send)).out == "2001 accepted, 0 rejected\n"
    await eventually(lambda: len(simulator.journal) == 2001)
    assert alive(server)
    worker.terminate()
    assert (await commands.ended(worker)).code == 0
    await eventually(lambda: not alive(server))
    async with open_store(own) as store:
        assert await store.inspector.unfinished() == 0
