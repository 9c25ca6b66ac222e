"""Throttling: limits that several lanes meet, and the shares of tenants in one lane."""

from __future__ import annotations

import argparse
import asyncio
import time
from functools import partial

from benchmarks.arrivals import (
    MIXED_SECONDS,
    Arrival,
    Check,
    at_least,
    at_most,
    burst_checks,
    counts,
    figure,
    group,
    jain,
    promise,
    use_check,
    worst_burst,
)
from benchmarks.rig import SETTLE_IN, Case, Rig, Run, provider, rig


def shared(options: argparse.Namespace) -> list[Run]:
    """Limits that several lanes meet."""
    return [partial(part, options.seconds or 20) for part in (_carriers, _providers, _senders)]


async def _carriers(seconds: float) -> Case:
    rate, slow_rate, slow = 500, 5, 3
    limits = "".join(f'[carriers.c{n}]\nrate = "{slow_rate}/s"\n' for n in range(slow))
    async with rig(provider("sink", rate=f"{rate}/s") + limits) as run:
        for n in range(10):
            share = slow_rate if n < slow else rate / 5
            await run.enqueue(int(share * (seconds + 10)), group=n, carrier=f"c{n}")
        arrivals, span, cpu = await _measured(run, seconds)
        checks = burst_checks("provider", arrivals, rate, slack=MIXED_SECONDS)
        checks.append(use_check("provider", arrivals, rate, span, 0.98))
        for n in range(slow):
            mine = [arrival for arrival in arrivals if group(arrival) == n]
            checks += burst_checks(f"slow carrier {n}", mine, slow_rate)
            checks.append(use_check(f"slow carrier {n}", mine, slow_rate, span, 0.98))
        fair = jain(counts(arrivals, range(slow, 10), span))
        checks += [at_least("Jain of the seven fast lanes", fair, 0.98), cpu]
        return run.case("ten carriers under one provider limit, three of them slow", checks)


async def _providers(seconds: float) -> Case:
    rate = 300
    tables = '[carriers.one]\nrate = "300/s"\n'
    for n in range(3):
        tables += provider(f"p{n}")
        tables += f'[[routes]]\nto = "+4915100{n}*"\nproviders = ["p{n}"]\n'
    async with rig(tables) as run:
        for n in range(3):
            await run.enqueue(int(rate / 2 * (seconds + 10)), group=n)
        run.sink.delay("/p1", 0.15)
        arrivals, span, cpu = await _measured(run, seconds)
        checks = burst_checks("carrier", arrivals, rate)
        checks.append(use_check("carrier", arrivals, rate, span, 0.98))
        fair = jain(counts(arrivals, range(3), span))
        checks += [at_least("Jain of the three lanes", fair, 0.98), cpu]
        return run.case("a carrier limit shared by three providers, one of them slow", checks)


async def _senders(seconds: float) -> Case:
    rate, senders = 75, 300
    tables = provider("sink") + '[carriers.one]\nrate = "75/s"\n'
    tables += '[[limits]]\nname = "numbers"\nprovider = "sink"\neach = "sender"\nrate = "1/s"\n'
    async with rig(tables) as run:
        for n in range(senders):
            sender = f"+150055{n:05d}"
            await run.enqueue(int(seconds) + 10, group=n, sender=sender)
        arrivals, span, cpu = await _measured(run, seconds)
        checks = burst_checks("carrier", arrivals, rate, slack=MIXED_SECONDS)
        checks.append(use_check("carrier", arrivals, rate, span, 0.98))
        lanes: dict[str, list[Arrival]] = {}
        for arrival in arrivals:
            lanes.setdefault(arrival.sender, []).append(arrival)
        worst = max(
            worst_burst([arrival.first for arrival in mine], [1.0] * len(mine), 1.0)
            for mine in lanes.values()
        )
        fair = jain(counts(arrivals, range(senders), span))
        checks += [
            at_most("worst burst of any sender", worst, promise(1.0)),
            at_least("Jain of the senders", fair, 0.98),
            cpu,
        ]
        return run.case("300 senders at 1/s under a carrier at 75/s", checks)


async def _measured(
    run: Rig, seconds: float, workers: int = 4
) -> tuple[list[Arrival], tuple[float, float], Check]:
    """Start workers on the backlog; the arrivals, the span to look at, the store's CPU."""
    await run.start(workers)
    await asyncio.sleep(SETTLE_IN)
    start, before = time.monotonic(), await run.store_cpu()
    await asyncio.sleep(seconds + 1)
    cpu = (await run.store_cpu() - before) / (time.monotonic() - start)
    return run.sink.end(), (start, start + seconds), figure("store CPU, ms/s", cpu * 1000)


def tenants(options: argparse.Namespace) -> list[Run]:
    """Shares of tenants in one lane, whatever they have submitted."""
    seconds = options.seconds or 60
    return [partial(_equal, options.messages, seconds), partial(_weighted, seconds)]


async def _equal(messages: int, seconds: float) -> Case:
    async with rig(provider("sink", rate="100/s")) as run:
        for n in range(10):
            await run.enqueue(messages if n == 0 else 1000, group=n, tenant=f"t{n}")
        await run.start(2)
        await asyncio.sleep(seconds)
        arrivals = run.sink.end()
        start = arrivals[0].first
        fair = jain(counts(arrivals, range(10), (start, start + seconds)))
        checks = [at_least("Jain of the tenants", fair, 0.98)]
        return run.case(f"ten tenants, one with {messages:,} messages, nine with 1,000", checks)


async def _weighted(seconds: float) -> Case:
    tables = provider("sink", rate="100/s") + "[tenants.t0]\nweight = 3\n[tenants.t1]\n"
    async with rig(tables) as run:
        for n in range(2):
            await run.enqueue(int(100 * (seconds + 10)), group=n, tenant=f"t{n}")
        await run.start(2)
        await asyncio.sleep(seconds)
        arrivals = run.sink.end()
        start = arrivals[0].first
        three, one = counts(arrivals, range(2), (start, start + seconds))
        ratio = three / max(1, one)
        checks = [at_least("ratio", ratio, 3 * 0.95), at_most("ratio", ratio, 3 * 1.05)]
        return run.case("two tenants, weights 3 and 1", checks)
