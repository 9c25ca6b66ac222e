"""A store that has forgotten what a worker had settled, as a new master may: the worker starts anew
and what it held is not left to wait for its lease."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.campaign import Campaign, numbers, twilio, until

MESSAGES = 600


async def test_what_it_held_is_back_at_once(
    campaign: Callable[[str], Campaign], simulator_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = campaign(twilio(simulator_url, rate="300/s") + '[worker]\nlease = "10m"\n')
    batch = await run.submit(numbers(MESSAGES))

    async def some_are_sent() -> bool:
        return len(run.arrived()) >= MESSAGES // 4

    async with run.work():
        await until(some_are_sent)
        (held,) = await run.store.client.keys(run.store.keys.name("held", "*"))
        assert await run.store.client.hdel(held, "#seq") == 1
        assert await run.finished(batch) == {"sent": MESSAGES}
        assert await run.store.inspector.workers() == 1
    assert "has forgotten what worker" in caplog.text
    assert run.arrived().keys() == run.ids(batch, MESSAGES)
    assert await run.is_empty()
