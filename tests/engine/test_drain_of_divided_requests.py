"""A request that is too large is divided while its worker ends: the worker waits for the parts."""

from __future__ import annotations

from collections.abc import Callable

from dispatcher.simulator import Refuse, Slow
from tests.campaign import Campaign, numbers, until, webhook

Start = Callable[[str], Campaign]


async def test_the_parts_have_their_answers(campaign: Start, simulator_url: str) -> None:
    run = campaign(webhook(simulator_url, batch=8))
    run.simulator.set_faults([Slow(seconds=0.3), Refuse(413, times=1)])
    batch = await run.submit(numbers(8), "bulk")

    async def under_way() -> bool:
        return run.simulator.counts.requests == 1

    async with run.work():
        await until(under_way)
    assert await run.counts(batch) == {"sent": 8}
    run.assert_each_arrived_once((batch, 8))
    assert await run.is_empty()
