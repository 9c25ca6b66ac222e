"""The clock of the store steps back: what was planned by the old time does not wait for it.

Here everything in the store lies that much further ahead instead; `test_steps_of_the_clock` moves
the clock of a real server."""

from __future__ import annotations

import pytest

from tests.store.cell import OWN, Cell, entries_of

MINUTE = 60.0


async def step_back(cell: Cell) -> None:
    """All times in the store lie a minute further ahead."""
    await cell.pass_time(-MINUTE)
    for name in await cell.client.zrange(cell.keys.name("workers"), 0, -1):
        await cell.client.zincrby(cell.keys.name("workers"), MINUTE * 1e6, name)
    await cell.client.hincrby(cell.keys.name("clock"), "seen", int(MINUTE * 1e6))


@pytest.mark.parametrize("rate", [0, 1000])
async def test_lanes_are_visited(cell: Cell, rate: float) -> None:
    await cell.limit(OWN, rate)
    await cell.enqueue(500, size=50)
    assert entries_of(await cell.claim("w1", 100))
    await step_back(cell)
    await cell.claim("w1", 100)
    await cell.pass_time(1)
    assert entries_of(await cell.claim("w1", 100))


async def test_a_limit_goes_on_and_is_not_exceeded(cell: Cell) -> None:
    await cell.limit(OWN, 1000)
    await cell.enqueue(500, size=50)
    await cell.claim("w1", 1000)
    await step_back(cell)
    before = (await cell.limit_state())["tat"]
    assert not entries_of(await cell.claim("w2", 1000))
    after = (await cell.limit_state())["tat"]
    assert before - MINUTE * 1e6 <= after < before - (MINUTE - 1) * 1e6


async def test_a_provider_that_was_down_is_tried_again(cell: Cell) -> None:
    await cell.enqueue(50)
    await cell.settle("w1", breakers=[("p", 0, 1, 1)])
    assert (await cell.claim("w1")).breaker == "open"
    await step_back(cell)
    assert (await cell.claim("w1")).breaker == "open"
    await cell.pass_time(7)
    assert (await cell.claim("w1")).breaker == "probe"


async def test_a_worker_that_dies_is_missed(cell: Cell) -> None:
    await step_back(cell)
    beat = await cell.queue.heartbeat("w1")
    assert beat.beats.keys() == {"w1", "w2"}
    assert all(float(at) < beat.now_us + 1e6 for at in beat.beats.values())


async def test_heartbeats_ahead_of_each_other_are_no_step(cell: Cell) -> None:
    ahead = int((await cell.queue.heartbeat("w1")).beats["w2"]) + 5_000_000
    await cell.client.zadd(cell.keys.name("workers"), {"w2": ahead})
    assert (await cell.queue.heartbeat("w1")).beats["w2"] == str(ahead)


async def test_a_worker_that_is_known_to_have_ended_need_not_be_silent(store_cell: Cell) -> None:
    cell, workers = store_cell, store_cell.keys.name("workers")
    await cell.enqueue(3)
    await cell.claim_entries("w2")
    ahead = int((await cell.queue.heartbeat("w2")).beats["w2"]) + 1_000_000
    await cell.client.zadd(workers, {"w2": ahead})
    assert await cell.queue.reclaim_dead("w2", str(ahead), 0) == 3
