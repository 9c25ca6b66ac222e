"""Calls that workers gave up reach the store later, between others: nothing is lost, sent twice or
counted wrong."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.simulator import Refuse, Slow
from dispatcher.store.scripts import Argument, Script
from tests.campaign import Campaign, numbers, twilio

Start = Callable[[str], Campaign]
SHARE = 0.2
LATEST_SECONDS = 0.4
QUICK = '[retry]\nbase = "20ms"\nmax = "50ms"\nmax_attempts = 9\n[worker]\nlease = "3s"\n'


@pytest.fixture
async def late(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counter[str]]:
    """How many calls of each script came late so far."""
    run, chance = Script.__call__, random.Random(7)
    seen, under_way = Counter[str](), set[asyncio.Task[Any]]()

    async def later(self: Script, key: str, arguments: tuple[Argument, ...]) -> None:
        await asyncio.sleep(LATEST_SECONDS * chance.random())
        await run(self, key, *arguments)

    async def call(self: Script, key: str, *arguments: Argument) -> Any:
        if self.name not in ("claim", "settle", "reclaim") or chance.random() > SHARE:
            return await run(self, key, *arguments)
        under_way.add(asyncio.create_task(later(self, key, arguments)))
        seen[self.name] += 1
        raise StoreUnavailable("given up")

    monkeypatch.setattr(Script, "__call__", call)
    yield seen
    await asyncio.gather(*under_way)


async def test_in_a_campaign(campaign: Start, simulator_url: str, late: Counter[str]) -> None:
    run = campaign(twilio(simulator_url, concurrency=15) + QUICK)
    run.simulator.set_faults([Slow(seconds=0.1), Refuse(503, every=7)])
    batches = [await run.submit(numbers(200), class_) for class_ in ("bulk", "normal")]
    async with run.work(), run.work():
        for batch in batches:
            assert await run.finished(batch) == {"sent": 200}
    run.assert_each_arrived_once(*((batch, 200) for batch in batches))
    assert late.keys() >= {"claim", "settle", "reclaim"}
    views = [await run.view(batch) for batch in batches]
    assert sum(view.events["retried"] for view in views) == refusals(run)


def refusals(run: Campaign) -> int:
    return sum(run.simulator.counts.refused.values())
