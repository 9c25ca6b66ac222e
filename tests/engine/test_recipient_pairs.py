"""Limits that each recipient has for itself: they hold back the message, never the lane."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import pairwise
from statistics import median

import pytest

from dispatcher.messages import Status
from dispatcher.settings import StoreConfig
from dispatcher.store.opening import Store, open_store
from tests.campaign import Campaign, numbers, until, webhook
from tests.faults.proxy import Proxy

Start = Callable[[str], Campaign]
INTERVAL = 0.3
PAIRS = '[[limits]]\nname = "pairs"\nchannel = "sms"\neach = "recipient"\nrate = "200/min"\n'
HELD = numbers(3, "+49160")


def arrivals(run: Campaign) -> dict[str, list[float]]:
    """When messages to each recipient arrived (seconds)."""
    found: dict[str, list[float]] = defaultdict(list)
    for one in run.simulator.journal.entries():
        if one.event == "accepted":
            found[one.to].append(one.arrived_ns / 1e9)
    return found


def assert_apart(run: Campaign, recipients: Iterable[str] = HELD) -> None:
    times = arrivals(run)
    gaps = [after - at for to in recipients for at, after in pairwise(times[to])]
    assert gaps
    assert min(gaps) >= INTERVAL - 0.05


async def test_the_others_of_the_lane_do_not_wait(campaign: Start, simulator_url: str) -> None:
    run = campaign(webhook(simulator_url, rate="400/s") + PAIRS)
    others = numbers(200)
    batch = await run.submit([*HELD * 5, *others])
    async with run.work():
        assert await run.finished(batch) == {"sent": 215}
    run.assert_each_arrived_once((batch, 215))
    assert_apart(run)
    times = arrivals(run)
    # All of them on an idle machine; one that misses its slot has used its turn.
    assert median(times[to][0] for to in others) < min(times[to][4] for to in HELD)


@pytest.mark.parametrize("concurrency", [256, 2])
async def test_a_held_message_uses_no_attempt_and_comes_back_at_its_turn(
    campaign: Start, simulator_url: str, concurrency: int
) -> None:
    run = campaign(webhook(simulator_url, concurrency=concurrency) + PAIRS)
    batch = await run.submit(HELD * 4)
    async with run.work():
        assert await run.finished(batch) == {"sent": 12}
    run.assert_each_arrived_once((batch, 12))
    assert_apart(run)
    records = [record for _, record in (await run.records(batch)).values()]
    assert {record.attempts for record in records} == {1}
    codes = {attempt.code for record in records for attempt in record.history}
    assert codes == {"recipient_limit"}
    events = (await run.view(batch)).events
    assert events["retried"] == 0
    assert 9 <= events["deferred"] <= 18


async def test_several_workers_and_classes_share_the_turns(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(webhook(simulator_url, rate="100/s") + PAIRS)
    batches = [await run.submit(HELD * 2, class_) for class_ in ("bulk", "normal", "urgent")]
    async with run.work(), run.work():
        for batch in batches:
            assert await run.finished(batch) == {"sent": 6}
    run.assert_each_arrived_once(*((batch, 6) for batch in batches))
    assert_apart(run)


async def test_messages_in_one_request_are_screened_each(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(webhook(simulator_url, batch=10, batch_wait="20ms") + PAIRS)
    batch = await run.submit([*HELD * 3, *numbers(40)])
    async with run.work():
        assert await run.finished(batch) == {"sent": 49}
    run.assert_each_arrived_once((batch, 49))
    assert_apart(run)


async def test_messages_without_a_slot_do_not_use_a_turn(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(webhook(simulator_url, concurrency=2) + PAIRS)
    batch = await run.submit(numbers(60))
    async with run.work():
        assert await run.finished(batch) == {"sent": 60}
    run.assert_each_arrived_once((batch, 60))
    assert (await run.view(batch)).events == {"retried": 0, "deferred": 0}


async def test_a_turn_that_was_missed_for_want_of_a_connection_is_given_anew(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(webhook(simulator_url, concurrency=4) + PAIRS)
    run.simulator.change_account("webhook/demo", latency={"mean": 0.7})
    batch = await run.submit([*numbers(6), *HELD * 4])
    async with run.work(), run.work():
        assert await run.finished(batch) == {"sent": 18}
    run.assert_each_arrived_once((batch, 18))
    assert_apart(run)


async def test_a_message_far_from_its_turn_waits_until_then(
    campaign: Start, simulator_url: str
) -> None:
    pairs = PAIRS.replace("200/min", "1/h")
    run = campaign(webhook(simulator_url) + pairs)
    batch = await run.submit(HELD[:1] * 2)

    async def waits() -> bool:
        return await run.counts(batch) == {"sent": 1, "scheduled": 1}

    async with run.work():
        await until(waits)
    ((status, record),) = [
        found for found in (await run.records(batch)).values() if found[0] is not Status.SENT
    ]
    assert (status, record.code) == (Status.SCHEDULED, "recipient_limit")
    assert record.due_ms - record.at_ms == pytest.approx(3_600_000, abs=2000)


@pytest.fixture
async def proxy(store: Store) -> AsyncIterator[Proxy]:
    async with Proxy(store) as proxy:
        yield proxy


async def test_a_lost_reply_delays_and_lets_nothing_go_early(
    campaign: Start, simulator_url: str, store: Store, proxy: Proxy
) -> None:
    run = campaign(webhook(simulator_url) + PAIRS + '[worker]\nlease = "1s"\n')
    batch = await run.submit([*HELD * 3, *numbers(20)])
    await proxy.lose("screen", times=3)
    async with open_store(StoreConfig(url=proxy.url, prefix=store.keys.prefix)) as far:
        behind = Campaign(run.config, far, run.simulator)
        async with behind.work():
            assert await behind.finished(batch) == {"sent": 29}
    assert proxy.lost == 3
    run.assert_each_arrived_once((batch, 29))
    assert_apart(run)
