"""A store that answers late: workers go on at the whole rate, and never above it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dispatcher.settings import StoreConfig
from dispatcher.store.opening import Store, open_store
from tests.campaign import Campaign, numbers, twilio
from tests.faults.proxy import Proxy
from tests.faults.test_six_carriers import KERNEL_SECONDS, Waits, worst_burst

RATE, COUNT = 300, 600
EACH_WAY_SECONDS = 0.05


async def test_lanes_with_a_rate_go_on(
    campaign: Callable[[str], Campaign], simulator_url: str, store: Store
) -> None:
    run = campaign(twilio(simulator_url, rate=f"{RATE}/s"))
    batch = await run.submit(numbers(COUNT), class_="bulk")
    waits = Waits()
    watch = asyncio.create_task(waits.watch())
    async with Proxy(store) as proxy:
        proxy.delay = EACH_WAY_SECONDS
        far = StoreConfig(url=proxy.url, prefix=store.keys.prefix)
        async with open_store(far) as one, open_store(far) as other:
            first, second = (Campaign(run.config, each, run.simulator) for each in (one, other))
            async with first.work(), second.work():
                assert await run.finished(batch) == {"sent": COUNT}
    watch.cancel()
    run.assert_each_arrived_once((batch, COUNT))
    arrivals = sorted(entry.arrived_ns / 1e9 for entry in run.simulator.journal.entries())
    late = 0.05 + KERNEL_SECONDS + waits.longest
    assert worst_burst(arrivals, RATE) <= 1 + RATE * late
