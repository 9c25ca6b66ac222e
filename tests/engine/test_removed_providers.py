"""A configuration no longer has the provider that a message would fail over to."""

from __future__ import annotations

from collections.abc import Callable

from dispatcher.config import Config
from dispatcher.simulator import Refuse
from tests.campaign import Campaign, numbers, until, webhook

Start = Callable[[str], Campaign]


async def test_messages_wait_for_the_one_that_is_left(
    campaign: Start, configure: Callable[[str], Config], simulator_url: str
) -> None:
    left = webhook(simulator_url, "left")
    run = campaign(left + webhook(simulator_url, "gone"))
    batch = await run.submit(numbers(3), "bulk")
    run.simulator.set_faults([Refuse(401, times=1)])

    async def refused() -> bool:
        return (await run.view(batch)).events["deferred"] > 0

    async with run.work(configure(left)):
        await until(refused)
        lanes = {record.lane for _, record in (await run.records(batch)).values()}
        assert lanes == {"left/sms/de"}
        await run.store.client.delete(run.store.keys.name("breaker", "left"))
        await run.make_due()
        assert await run.finished(batch) == {"sent": 3}
