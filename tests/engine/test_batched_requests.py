"""Requests that carry many messages: how they fill, when they leave, what each message becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from dispatcher.messages import Status
from dispatcher.simulator import Refuse, ResetAfter, Settings, Simulator, WebhookAccount
from tests.campaign import Campaign, numbers, until, webhook

Start = Callable[[str], Campaign]

KERNEL_SECONDS = 0.02
"""What a busy machine may add between the write and the simulator's time stamp."""


def requests(simulator: Simulator) -> list[int]:
    """Messages in each accepted request, in order of arrival."""
    accepted = (one for one in simulator.journal.entries() if one.event == "accepted")
    return list(Counter(one.key for one in accepted).values())


def worst_burst(arrivals: Sequence[float], rate: float) -> float:
    """The most messages above `rate` in any window."""
    debt = worst = 0.0
    last = arrivals[0]
    for at in arrivals:
        debt = max(0.0, debt - rate * (at - last)) + 1
        worst, last = max(worst, debt), at
    return worst


async def test_a_backlog_fills_requests(campaign: Start, simulator_url: str) -> None:
    run = campaign(webhook(simulator_url, batch=100))
    batch = await run.submit(numbers(2000))
    async with run.work():
        assert await run.finished(batch) == {"sent": 2000}
    run.assert_each_arrived_once((batch, 2000))
    assert requests(run.simulator) == [100] * 20


async def test_a_request_that_is_not_full_leaves_after_its_wait(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(webhook(simulator_url, batch=100, batch_wait="20ms"))
    batch = await run.submit(numbers(7))
    async with run.work():
        assert await run.finished(batch) == {"sent": 7}
    assert requests(run.simulator) == [7]


async def test_urgent_messages_do_not_wait_for_others(campaign: Start, simulator_url: str) -> None:
    run = campaign(webhook(simulator_url, batch=100, batch_wait="1h"))
    batch = await run.submit(numbers(3), "urgent")
    async with run.work():
        assert await run.finished(batch) == {"sent": 3}


async def test_a_rate_in_messages_holds_but_for_one_request(
    campaign: Start, simulator_url: str
) -> None:
    rate, size = 400.0, 20
    run = campaign(webhook(simulator_url, batch=size, rate="400/s"))
    batch = await run.submit(numbers(800))
    async with run.work():
        assert await run.finished(batch) == {"sent": 800}
    arrivals = [one.arrived_ns / 1e9 for one in run.simulator.journal.entries()]
    bound = 1 + size + rate * (0.05 + KERNEL_SECONDS) + rate * 0.1  # batch_wait holds some back
    assert worst_burst(arrivals, rate) <= bound
    assert max(requests(run.simulator)) == size


async def test_a_rate_in_requests_counts_requests(campaign: Start, simulator_url: str) -> None:
    limit = '[[limits]]\nname = "calls"\nprovider = "hook"\nrate = "40/s"\nunit = "request"\n'
    run = campaign(webhook(simulator_url, batch=10, batch_wait="1ms") + limit)
    small = [await run.submit(numbers(4)) for _ in range(50)]
    large = await run.submit(numbers(203))
    async with run.work():
        for batch in (*small, large):
            await run.finished(batch)
    run.assert_each_arrived_once(*((batch, 4) for batch in small), (large, 203))
    first = {one.key: one.arrived_ns / 1e9 for one in run.simulator.journal.entries()}
    assert len(first) >= 50 + 21
    assert worst_burst(sorted(first.values()), 40.0) <= 1 + 40 * (0.05 + KERNEL_SECONDS)


async def test_each_message_gets_its_own_answer(
    campaign: Start, simulator: Simulator, simulator_url: str
) -> None:
    refusing = Simulator(Settings(accounts=(WebhookAccount(rejects=("+44",)),)))
    url = await refusing.start()
    run = campaign(webhook(url, batch=50))
    batch = await run.submit([*numbers(60), *numbers(40, "+44747"), *numbers(60, "+49160")])
    async with run.work():
        assert await run.finished(batch) == {"sent": 120, "dead": 40}
    records = await run.records(batch)
    assert {records[at][0] for at in range(60, 100)} == {Status.DEAD}
    assert (await run.view(batch)).codes == {"dead:rejected": 40}
    await refusing.stop()


async def test_failed_requests_are_tried_again_whole(campaign: Start, simulator_url: str) -> None:
    retry = '[retry]\nbase = "10ms"\nmax = "20ms"\n'
    run = campaign(webhook(simulator_url, batch=50) + retry)
    run.simulator.set_faults([Refuse(status=503, code="503", every=3)])
    batch = await run.submit(numbers(500))
    async with run.work():
        assert await run.finished(batch) == {"sent": 500}
    run.assert_each_arrived_once((batch, 500))
    assert (await run.view(batch)).events["retried"] >= 50


async def test_a_request_without_an_answer_leaves_every_message_unknown(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(webhook(simulator_url, batch=50, on_unknown="hold"))
    run.simulator.set_faults([ResetAfter(times=1)])
    batch = await run.submit(numbers(200))
    async with run.work():
        assert await run.finished(batch) == {"sent": 150, "unknown": 50}
    assert len(await run.letters()) == 50
    run.assert_each_arrived_once((batch, 200))


async def test_a_drain_sends_or_returns_what_was_collected(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(webhook(simulator_url, batch=100, batch_wait="1h"))
    batch = await run.submit(numbers(130))
    async with run.work():

        async def first_is_out() -> bool:
            return (await run.view(batch)).counts["sent"] == 100

        await until(first_is_out)
    counts = await run.counts(batch)
    assert counts.get("sent", 0) + counts.get("queued", 0) == 130
    assert await run.is_empty() or counts.get("queued")
    assert sum(run.arrived().values()) == counts["sent"]
