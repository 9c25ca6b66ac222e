"""How soon the supervisor starts workers again, and whose messages it puts back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.cli import crew
from dispatcher.config import Config
from dispatcher.engine import reclaim
from dispatcher.settings import StoreConfig
from dispatcher.store.opening import Store
from tests.campaign import until, webhook

HOPELESS = webhook("http://127.0.0.1:9") + "[worker]\nprocesses = 2\nport = 0\n"


async def pauses(
    path: Path, config: Config, log: pytest.LogCaptureFixture, count: int
) -> dict[int, list[str]]:
    """By worker, how long its first pauses are when each life ends as soon as it has begun."""
    stop, found = asyncio.Event(), {}
    running = asyncio.create_task(crew.Crew(path, config).run(stop, asyncio.Event()))

    async def often_enough() -> bool:
        lines = [record.getMessage() for record in log.records]
        for number in (1, 2):
            start = f"worker {number} ended with code 2, next start in "
            found[number] = [line.removeprefix(start) for line in lines if line.startswith(start)]
        return min(map(len, found.values())) >= count

    try:
        await until(often_enough)
    finally:
        stop.set()
        await asyncio.wait((running,))
    return {number: texts[:count] for number, texts in found.items()}


@pytest.mark.parametrize(
    ("well_seconds", "expected"),
    [(60.0, ["0.02 s", "0.04 s", "0.05 s"]), (0.0, ["0.02 s", "0.02 s"])],
)
async def test_pauses_double_per_worker_until_one_runs_well(
    configure: Callable[[str], Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    well_seconds: float,
    expected: list[str],
) -> None:
    monkeypatch.setattr(crew, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(crew, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(crew, "WELL_SECONDS", well_seconds)
    absent = tmp_path / "absent.toml"
    found = await pauses(absent, configure(HOPELESS), caplog, len(expected))
    assert found == {1: expected, 2: expected}


async def test_only_the_workers_of_that_very_process_are_put_back(store: Store) -> None:
    """Containers may share host name and process id, and a process may have had several workers."""
    names = ["host.7.1.aa.x", "host.7.1.aa.y", "host.7.1.bb.x", "host.7.aa", "other.1.aa"]
    for name in names:
        await store.queue.heartbeat(name, first=True)
    assert await reclaim.put_back(store, "1.aa") == 0
    left = await store.client.zrange(store.keys.name("workers"), 0, -1)
    assert sorted(name.decode() for name in left) == sorted(names[2:])


async def test_without_a_store_the_lease_has_to_do(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaim, "PATIENCE", 0.1)
    reclaimer = reclaim.Reclaimer(StoreConfig(url="redis://127.0.0.1:1"))
    holding = asyncio.create_task(reclaimer.run())
    with caplog.at_level(logging.WARNING):
        await reclaimer.put_back("1.aa")
    holding.cancel()
    await asyncio.wait((holding,))
    assert "worker 1.aa: others take over after the lease" in caplog.text
