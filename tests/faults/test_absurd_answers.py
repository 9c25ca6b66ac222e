"""Answers that no provider should give: what they say is believed within bounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

import pytest

from dispatcher import metrics
from dispatcher.errors import RETRY_AFTER_MOST, Permanent, Throttled
from dispatcher.exchange import HttpAnswer
from dispatcher.providers.webhook import Webhook
from dispatcher.simulator import Refuse
from tests.campaign import Campaign, numbers, twilio, until, webhook

Start = Callable[[str], Campaign]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_wait_of_ages_is_one_of_a_day(
    campaign: Start, simulator_url: str, status: int
) -> None:
    run = campaign(twilio(simulator_url, concurrency=1))
    run.simulator.set_faults([Refuse(status, retry_after=10**30, times=1)])
    batch = await run.submit(numbers(1))

    async def refused() -> bool:
        events = (await run.view(batch)).events
        return events["deferred"] + events["retried"] == 1

    async with run.work() as worker:
        await until(refused)
        assert not worker.done()
    ends_us = max(await due(run), await paused_until(run))
    ahead = ends_us / 1e6 - time.time()
    assert 0.8 * RETRY_AFTER_MOST < ahead < 1.3 * RETRY_AFTER_MOST


async def due(run: Campaign) -> float:
    items = await run.store.client.zrange(run.store.keys.name("scheduled"), 0, 0, withscores=True)
    return float(items[0][1]) if items else 0.0


async def paused_until(run: Campaign) -> float:
    name = run.store.keys.name("limit", "provider:twilio")
    return float(await run.store.client.hget(name, "pause") or 0)


@pytest.mark.parametrize(
    ("said", "believed"),
    [(float("inf"), RETRY_AFTER_MOST), (-5.0, 0.0), (float("nan"), 0.0), (7, 7.0), (None, None)],
)
def test_seconds_that_are_believed(said: float | None, believed: float | None) -> None:
    assert Throttled("429", retry_after=said).retry_after == believed


async def test_an_endpoint_that_makes_up_codes_fills_no_counters(
    campaign: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "CODES", metrics.Bounded(3))
    made_up = count()

    def refuse(self: Webhook, answer: HttpAnswer) -> Permanent:
        return Permanent(f"{next(made_up)} {'x' * 100_000}", "y" * 100_000)

    monkeypatch.setattr(Webhook, "read", refuse)
    run = campaign(webhook(simulator_url))
    batch = await run.submit(numbers(20))
    async with run.work():
        assert await run.finished(batch) == {"dead": 20}
    name = run.store.keys.name("batch", batch)
    codes = [field for field in await run.store.client.hkeys(name) if field.startswith(b"dead:")]
    assert len(codes) == 4 and all(len(code) <= 105 for code in codes)
    assert await run.store.client.memory_usage(name) < 10_000
    assert all(len(letter.detail) == 500 for letter in (await run.letters()).values())
