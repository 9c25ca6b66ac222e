"""A worker that ends does not wait for ever for a claim, and sends nothing of what it brings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.engine import runtime
from dispatcher.store.scripts import Argument, Script
from tests.campaign import Campaign, numbers, webhook

Start = Callable[[str], Campaign]


async def test_what_a_late_claim_brings_goes_back_unsent(
    campaign: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, answered, claimed = Script.__call__, asyncio.Event(), asyncio.Event()

    async def answer_late(self: Script, key: str, *arguments: Argument) -> Any:
        if self.name == "reclaim" and "leave" in arguments:
            answered.set()
            await asyncio.sleep(0.3)
        reply = await run(self, key, *arguments)
        if self.name == "claim":
            claimed.set()
            await answered.wait()
        return reply

    monkeypatch.setattr(Script, "__call__", answer_late)
    monkeypatch.setattr(runtime, "FLUSH_SECONDS", 1.0)
    of = campaign(webhook(simulator_url))
    batch = await of.submit(numbers(5), "bulk")
    async with of.work():
        await claimed.wait()
    assert await of.counts(batch) == {"queued": 5}
    assert of.arrived().total() == 0
    assert await of.store.inspector.workers() == 0
    monkeypatch.undo()
    async with of.work():
        assert await of.finished(batch) == {"sent": 5}
    of.assert_each_arrived_once((batch, 5))
