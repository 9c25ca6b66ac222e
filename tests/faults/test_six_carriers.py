"""Six carriers, each at its own limit, in one run: never above it, and never far below."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from tests.campaign import Campaign, numbers, twilio
from tests.faults.workers import drain, worker

RATES = {"+49151": 20, "+49172": 35, "+33607": 50, "+44747": 80, "+1214": 120, "+1201": 175}
SECONDS = 6
KERNEL_SECONDS = 0.02
"""The promise ends at the worker's socket. This much is allowed for the way from there to the clock
of the simulator, and on top of it what this very process is seen to be kept waiting for a core."""
TICK_SECONDS = 0.01
USUAL_SECONDS = 0.005
"""A timer may be so late on an idle machine."""


class Waits:
    """How long this process had to wait for a core: the longest, and all in all, in seconds."""

    def __init__(self) -> None:
        self.longest = self.total = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            late = time.monotonic() - before - TICK_SECONDS
            self.longest = max(self.longest, late)
            self.total += late if late > USUAL_SECONDS else 0.0


def worst_burst(times: list[float], rate: float) -> float:
    level = worst = last = 0.0
    for at in times:
        level = max(0.0, level - rate * (at - last)) + 1
        last, worst = at, max(worst, level)
    return worst


async def test_each_carrier_at_its_own_limit(
    campaign: Callable[[str], Campaign], config_file: Callable[[str], Path], simulator_url: str
) -> None:
    carriers = "".join(
        f'[carriers.c{prefix[1:]}]\nprefixes = ["{prefix}"]\nrate = "{rate}/s"\n'
        for prefix, rate in RATES.items()
    )
    toml = twilio(simulator_url) + carriers
    run = campaign(toml)
    batches = [
        (await run.submit(numbers(rate * SECONDS, prefix), class_="bulk"), rate * SECONDS)
        for prefix, rate in RATES.items()
    ]
    waits = Waits()
    watch = asyncio.create_task(waits.watch())
    with worker(config_file(toml)) as process:
        for batch, count in batches:
            assert await run.finished(batch) == {"sent": count}
        assert await drain(process) == 0
    watch.cancel()
    run.assert_each_arrived_once(*batches)
    arrivals: dict[str, list[float]] = {prefix: [] for prefix in RATES}
    for entry in run.simulator.journal.entries():
        prefix = next(prefix for prefix in RATES if entry.to.startswith(prefix))
        arrivals[prefix].append(entry.arrived_ns / 1e9)
    slack, lost = KERNEL_SECONDS + waits.longest, waits.total / SECONDS
    for prefix, rate in RATES.items():
        times = sorted(arrivals[prefix])
        assert worst_burst(times, rate) <= 1 + rate * (0.05 + slack)
        used = (len(times) - 1) / (rate * (times[-1] - times[0]))
        assert used >= 0.97 - lost
