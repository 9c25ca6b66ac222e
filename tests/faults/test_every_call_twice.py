"""Scripts run twice, and only the second reply is heard: nothing is lost or sent twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from benchmarks import twice
from dispatcher.simulator.faults import Refuse
from dispatcher.store.scripts import Script
from dispatcher.store.submissions import Submissions
from tests.campaign import Campaign, numbers, twilio

Start = Callable[[str], Campaign]
LEASE = '[worker]\nlease = "1s"\n'


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each script was asked for."""
    twice.seen.clear()
    monkeypatch.setattr(Script, "__call__", twice.run_twice)
    return twice.seen


async def test_a_campaign(campaign: Start, simulator_url: str, calls: Counter[str]) -> None:
    run = campaign(twilio(simulator_url, rate="800/s") + LEASE)
    batches = [await run.submit(numbers(300), class_) for class_ in ("bulk", "normal")]
    async with run.work():
        for batch in batches:
            assert await run.finished(batch) == {"sent": 300}
    run.assert_each_arrived_once(*((batch, 300) for batch in batches))
    assert await run.is_empty()
    assert {"enqueue", "claim", "settle", "heartbeat", "limits", "reclaim"} <= calls.keys()


async def test_retries(campaign: Start, simulator_url: str) -> None:
    quick = '[retry]\nbase = "1ms"\nmax = "5ms"\n'
    run = campaign(twilio(simulator_url) + LEASE + quick)
    run.simulator.set_faults([Refuse(503, every=9)])
    batch = await run.submit(numbers(300), "normal")
    async with run.work():
        assert await run.finished(batch) == {"sent": 300}
    run.assert_each_arrived_once((batch, 300))
    view = await run.view(batch)
    assert view.events["retried"] == run.simulator.counts.refused.total() > 0
    assert await run.is_empty()


async def test_a_cancelled_batch(campaign: Start, simulator_url: str, calls: Counter[str]) -> None:
    run = campaign(twilio(simulator_url, rate="100/s") + LEASE)
    batch = await run.submit(numbers(400), "bulk")
    async with run.work():
        await Submissions(run.store.client, run.store.keys).cancel(batch, run.config.providers)
        counts = await run.finished(batch)
    assert calls["cancel"] == 1
    assert sum(counts.values()) == 400
    assert counts["cancelled"] > 300
    assert len(run.arrived()) == counts.get("sent", 0)
    assert await run.is_empty()
