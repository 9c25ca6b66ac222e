"""Trouble of the store: workers wait, say so once, and go on by themselves; calls are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from benchmarks import faults
from dispatcher.simulator import Simulator
from tests.campaign import numbers, twilio
from tests.faults.server import Server, Troubled, troubled
from tests.ports import free_port

MESSAGES = 200
FROZEN_SECONDS = 3.0
Fault = Callable[[Server], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def killed(server: Server) -> AsyncIterator[None]:
    server.kill()
    yield
    server.start()


@asynccontextmanager
async def frozen(server: Server) -> AsyncIterator[None]:
    freezing = asyncio.create_task(faults.freeze(server.pid, FROZEN_SECONDS))
    yield
    await freezing


@asynccontextmanager
async def demoted(server: Server) -> AsyncIterator[None]:
    async with server.client() as client:
        await faults.replicate(client, free_port())
        yield
        await faults.promote(client)


@asynccontextmanager
async def short_of_replicas(server: Server) -> AsyncIterator[None]:
    async with server.client() as client:
        await client.config_set("min-replicas-to-write", 1)
        yield
        await client.config_set("min-replicas-to-write", 0)


@asynccontextmanager
async def disk_full(server: Server) -> AsyncIterator[None]:
    async with faults.fill_disk(server.folder):
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in which little fits."""
    try:
        with faults.small_disk(tmp_path / "disk", 4) as folder:
            yield folder
    except PermissionError as error:
        pytest.skip(str(error))


async def through(fault: Fault, rig: Troubled, reason: str) -> None:
    """A campaign in the middle of which the store gets into trouble and out of it."""
    run = rig.run
    batch = await run.submit(numbers(MESSAGES), class_="bulk")
    async with run.work():
        await rig.accepted(40)
        async with fault(rig.server):
            assert reason in await rig.unready()
            assert (await rig.health("/healthz"))[0] == 200
            status, after, detail = await rig.submit()
            assert (status, after) == (503, "2")
            assert reason in detail
            await asyncio.sleep(0.3)
        assert await run.finished(batch) == {"sent": MESSAGES}
        assert (await rig.submit())[0] == 202
        await rig.accepted(MESSAGES + 1)
    arrived = run.arrived()
    assert len(arrived) == arrived.total() == MESSAGES + 1
    said = rig.lines(f"{reason} ")
    assert 1 <= len(said) <= 2  # the worker and the API have an eye of their own on the store
    assert 1 <= len(rig.lines("store is well again")) <= 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (killed, "store cannot be reached"),
        (demoted, "store is a replica, which takes no writes"),
        (short_of_replicas, "store has fewer replicas than it needs to take writes"),
        (frozen, "store cannot be reached"),
    ],
)
async def test_a_store_that_is(
    fault: Fault,
    reason: str,
    tmp_path: Path,
    simulator: Simulator,
    simulator_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dispatcher.store.connection.ANSWER_SECONDS", 0.7)
    (tmp_path / "data").mkdir()
    toml = twilio(simulator_url, rate="300/s")
    with Server(tmp_path / "data").running() as server:
        async with troubled(server, simulator, toml, caplog) as rig:
            await through(fault, rig, reason)


async def test_a_store_whose_disk_is_full(
    disk: Path, simulator: Simulator, simulator_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    toml = twilio(simulator_url, rate="300/s")
    with Server(disk).running() as server:
        async with troubled(server, simulator, toml, caplog) as rig:
            await through(disk_full, rig, "store cannot write to its disk")
