"""The janitor goes through all keys in steps, one worker at a time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from dispatcher.engine import janitor
from dispatcher.engine.janitor import REST_SECONDS, Janitor
from dispatcher.engine.runtime import end_all
from dispatcher.settings import RetentionConfig
from dispatcher.store.opening import Store
from dispatcher.store.tidying import Tidying
from dispatcher.units import Duration
from tests.campaign import until
from tests.store.cell import Cell


@pytest.fixture
async def cell(store: Store) -> Cell:
    cell = Cell(store)
    await cell.limit()
    await cell.worker("w1", "w2")
    return cell


def janitor_of(cell: Cell, worker: str) -> Janitor:
    retention = RetentionConfig(dead=Duration(3600))
    return Janitor(Tidying(cell.client, cell.keys), cell.queue, worker, retention)


async def test_what_unregistered_workers_hold_goes_back(cell: Cell) -> None:
    await cell.enqueue(60, size=20)
    await cell.claim("w1", 20)
    await cell.claim("w2", 20)
    await cell.client.zrem(cell.keys.name("workers"), "w1")
    assert await janitor_of(cell, "w2").round()
    assert Counter((await cell.check()).values()) == {"queue": 40, "held:w2": 20}
    assert await cell.held("w1") == {}


async def test_the_others_wait_for_the_task(cell: Cell) -> None:
    assert await janitor_of(cell, "w1").round()
    waiting = janitor_of(cell, "w2")
    assert await waiting.step() >= REST_SECONDS
    assert not await waiting.round()
    await cell.client.hset(cell.keys.name("janitor"), "until", 1)
    assert await waiting.round()


async def test_a_round_passes_every_key_in_steps(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "STEP_KEYS", 7)
    for number in range(60):
        await cell.enqueue(1, f"p/sms/{number}")
    for number in range(60):
        await cell.client.hset(cell.keys.name("lane", f"p/sms/{number}"), "depth:normal", 0)
    one, steps = janitor_of(cell, "w1"), 1
    while await one.step() < REST_SECONDS:
        steps += 1
    assert steps > 5
    assert list((await cell.check()).values()) == ["queue"] * 60


async def test_old_letters_leave_in_a_round(cell: Cell) -> None:
    now = (await cell.queue.heartbeat("w1")).now_us
    dead, letters = cell.keys.name("dead"), cell.keys.name("letters")
    await cell.client.zadd(dead, {"old-0": now - 7_200_000_000, "young-0": now})
    await cell.client.hset(letters, mapping={"old-0": b"letter", "young-0": b"letter"})
    assert await janitor_of(cell, "w1").round()
    assert await cell.client.hkeys(letters) == [b"young-0"]
    assert await cell.client.zrange(dead, 0, -1) == [b"young-0"]


async def test_it_works_beside_the_pumps_until_cancelled(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "REST_SECONDS", 0.01)
    await cell.enqueue(5)
    await cell.client.zrem(cell.keys.name("lanes", "p"), "p/sms/a")
    running = asyncio.create_task(janitor_of(cell, "w1").run())

    async def listed() -> bool:
        return await cell.client.zscore(cell.keys.name("lanes", "p"), "p/sms/a") is not None

    await until(listed)
    await end_all((running,))
    assert running.cancelled()
