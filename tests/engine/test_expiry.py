"""A message whose time is over is `expired` and never on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from dispatcher.messages import Status
from dispatcher.settings import Config, ProviderConfig
from dispatcher.simulator import Refuse
from dispatcher.units import Rates
from tests.campaign import Campaign, numbers, twilio, until

Start = Callable[[str], Campaign]


async def test_in_the_queue(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url))
    batch = await run.submit(numbers(700), ttl=0.1)
    other = await run.submit(numbers(5))
    await asyncio.sleep(0.15)
    async with run.work():
        assert await run.finished(batch) == {"expired": 700}
        assert await run.finished(other) == {"sent": 5}
    run.assert_each_arrived_once((other, 5))


async def test_while_scheduled(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url) + '[retry]\nbase = "900ms"\nmax = "900ms"\n')
    run.simulator.set_faults([Refuse(500, to="+49151")])
    batch = await run.submit(numbers(3), ttl=1.5)

    async def scheduled() -> bool:
        return (await run.counts(batch)).get("queued", 0) == 0

    async with run.work():
        await until(scheduled)
    run.simulator.set_faults([])
    await asyncio.sleep(1.5)
    async with run.work():
        assert await run.finished(batch) == {"expired": 3}
    assert run.arrived() == {}


async def test_a_retry_that_would_come_too_late(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url))
    run.simulator.set_faults([Refuse(429, retry_after=60)])
    batch = await run.submit(numbers(3), ttl=30.0)
    async with run.work():

        async def expired() -> bool:
            return (await run.counts(batch)).get("expired", 0) > 0

        await until(expired)
    assert run.arrived() == {}


async def test_in_the_hands_of_a_worker(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url))
    batch = await run.submit(numbers(50), ttl=1.0)  # one entry, as the provider has no rate
    slow = slowed(run.config, "20/s")
    async with run.work(slow):
        counts = await run.finished(batch)
    assert counts.keys() == {"sent", "expired"}
    assert counts["sent"] + counts["expired"] == 50
    sent = {
        f"{batch}-{index}"
        for index, (status, _) in (await run.records(batch)).items()
        if status is Status.SENT
    }
    assert run.arrived().keys() == sent
    assert run.arrived().total() == counts["sent"] == run.simulator.counts.requests


def slowed(config: Config, rate: str) -> Config:
    provider: ProviderConfig = config.providers["twilio"]
    slow = msgspec.structs.replace(provider, rate=Rates.parse(rate))
    return msgspec.structs.replace(config, providers={"twilio": slow})
