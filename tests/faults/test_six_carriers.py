"""Six carriers, each at its own limit, in one run: never above it, and never far below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.campaign import Campaign, numbers, twilio
from tests.faults.workers import drain, worker

RATES = {"+49151": 20, "+49172": 35, "+33607": 50, "+44747": 80, "+1214": 120, "+1201": 175}
SECONDS = 6
KERNEL_SECONDS = 0.02
"""The promise ends at our socket: what a busy machine adds on the way to the simulator's clock,
which shares two cores with the worker and the store, is allowed for."""


def worst_burst(times: list[float], rate: float) -> float:
    level = worst = last = 0.0
    for time in times:
        level = max(0.0, level - rate * (time - last)) + 1
        last, worst = time, max(worst, level)
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
    with worker(config_file(toml)) as process:
        for batch, count in batches:
            assert await run.finished(batch) == {"sent": count}
        assert await drain(process) == 0
    run.assert_each_arrived_once(*batches)
    arrivals: dict[str, list[float]] = {prefix: [] for prefix in RATES}
    for entry in run.simulator.journal.entries():
        prefix = next(prefix for prefix in RATES if entry.to.startswith(prefix))
        arrivals[prefix].append(entry.arrived_ns / 1e9)
    for prefix, rate in RATES.items():
        times = sorted(arrivals[prefix])
        print(
            prefix,
            rate,
            worst_burst(times, rate),
            (len(times) - 1) / (rate * (times[-1] - times[0])),
        )
        assert worst_burst(times, rate) <= 1 + rate * (0.05 + KERNEL_SECONDS)
        used = (len(times) - 1) / (rate * (times[-1] - times[0]))
        assert used >= 0.97
