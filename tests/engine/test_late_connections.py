"""A provider whose connections take long to open: no slot is used late, nothing is lost, and its
messages go in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.campaign import Campaign, numbers, until, webhook
from tests.engine.late_door import AUTHORITY, LateDoor
from tests.engine.test_batched_requests import KERNEL_SECONDS, worst_burst

Start = Callable[[str], Campaign]
RATE = 50.0
SLOTS_SECONDS = 1.0
"""How long a door stays closed: many times as long as a slot lasts."""


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system trusts who signed the door's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", AUTHORITY)


async def assert_held(run: Campaign, batch: str, count: int) -> None:
    """Nothing was lost or sent twice, the rate held, and no attempt was used."""
    run.assert_each_arrived_once((batch, count))
    arrivals = [one.arrived_ns / 1e9 for one in run.simulator.journal.entries()]
    assert worst_burst(arrivals, RATE) <= 1 + RATE * (0.05 + KERNEL_SECONDS)
    records = [record for _, record in (await run.records(batch)).values()]
    assert {record.attempts for record in records} == {1}
    assert (await run.view(batch)).events == {"retried": 0, "deferred": 0}


@pytest.mark.parametrize("size", [1, 5])
async def test_no_burst_follows_when_a_door_opens(
    campaign: Start, simulator_url: str, size: int
) -> None:
    async with LateDoor(simulator_url) as door:
        run = campaign(webhook(door.url, rate="50/s", batch=size, batch_wait="10ms"))
        batch = await run.submit(numbers(150))

        async def knocked() -> bool:
            return door.knocked > 0

        async with run.work():
            await until(knocked)
            await asyncio.sleep(SLOTS_SECONDS)
            assert len(run.simulator.journal) == 0
            door.opened.set()
            assert await run.finished(batch) == {"sent": 150}
    if size == 1:
        await assert_held(run, batch, 150)
    else:
        run.assert_each_arrived_once((batch, 150))
        assert (await run.view(batch)).events == {"retried": 0, "deferred": 0}


async def test_a_provider_always_slow_to_connect_gets_its_messages(
    campaign: Start, simulator_url: str
) -> None:
    """Each connection opens after several slots, and ends when nothing waits for it."""
    async with LateDoor(simulator_url, delay=0.1, impatient=0.02) as door:
        door.opened.set()
        run = campaign(webhook(door.url, rate="50/s"))
        batch = await run.submit(numbers(5))
        async with run.work():
            assert await run.finished(batch) == {"sent": 5}
    await assert_held(run, batch, 5)


async def test_messages_that_find_no_door_in_time_are_returned_by_a_drain(
    campaign: Start, simulator_url: str
) -> None:
    async with LateDoor(simulator_url) as door:
        run = campaign(webhook(door.url, rate="50/s", timeout="1s"))
        batch = await run.submit(numbers(20), class_="bulk")

        async def knocked() -> bool:
            return door.knocked > 0

        async with run.work():
            await until(knocked)
        assert await run.counts(batch) == {"queued": 20}
        door.opened.set()
        async with run.work():
            assert await run.finished(batch) == {"sent": 20}
    run.assert_each_arrived_once((batch, 20))
