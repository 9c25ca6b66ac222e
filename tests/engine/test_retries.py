"""What comes after an error: retries, deferrals, the other provider, dead letters."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable

import pytest

from dispatcher.messages import Status
from dispatcher.simulator import (
    Fault,
    Garbage,
    Hang,
    Refuse,
    ResetAfter,
    ResetBefore,
    Settings,
    Simulator,
    Truncate,
    TwilioAccount,
)
from tests.campaign import SID, Campaign, numbers, twilio, until, webhook

Start = Callable[[str], Campaign]
AT_ONCE = '[retry]\nbase = "1ms"\nmax = "5ms"\n'
OTHER_SID = "AC" + "1" * 32


def distance_from_uniform(values: Iterable[float]) -> float:
    """The Kolmogorov-Smirnov distance of `values` from the uniform distribution on 0 to 1."""
    ordered = sorted(values)
    count = len(ordered)
    above = max((place + 1) / count - value for place, value in enumerate(ordered))
    below = max(value - place / count for place, value in enumerate(ordered))
    return max(above, below)


async def test_gaps_between_attempts_have_full_jitter(campaign: Start, simulator_url: str) -> None:
    random.seed(2026)
    run = campaign(twilio(simulator_url) + '[retry]\nbase = "10h"\nmax = "40h"\nmax_age = "90d"\n')
    run.simulator.set_faults([Refuse(503, every=2)])
    batch = await run.submit(numbers(4000))
    for attempt, failed in ((1, 2000), (2, 1000)):

        async def attempted(failed: int = failed) -> bool:
            return await run.counts(batch) == {"sent": 4000 - failed, "scheduled": failed}

        async with run.work():
            await until(attempted)
        waits = [
            (record.due_ms - record.at_ms) / 1000
            for status, record in (await run.records(batch)).values()
            if status is Status.SCHEDULED and record.attempts == attempt
        ]
        assert len(waits) == failed
        most = 36_000.0 * 2 ** (attempt - 1)
        assert distance_from_uniform(wait / most for wait in waits) < 1.63 / failed**0.5
        await run.make_due()
    assert (await run.view(batch)).events["retried"] == 3000


async def test_transient_errors_are_retried_until_they_pass(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url) + AT_ONCE + "max_attempts = 30\n")
    run.simulator.set_faults([Refuse(500, every=3), ResetBefore(every=7)])
    batch = await run.submit(numbers(300))
    async with run.work():
        assert await run.finished(batch) == {"sent": 300}
    run.assert_each_arrived_once((batch, 300))
    attempts = sum(record.attempts for _, record in (await run.records(batch)).values())
    assert attempts == run.simulator.counts.requests
    assert (await run.view(batch)).events["retried"] == attempts - 300


async def test_attempts_have_an_end(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url) + AT_ONCE + "max_attempts = 3\n")
    run.simulator.set_faults([Refuse(500, to="+491510000000")])
    batch = await run.submit(numbers(50))
    async with run.work():
        assert await run.finished(batch) == {"sent": 40, "dead": 10}
    assert (await run.view(batch)).codes == {"dead:20500": 10}
    letters = await run.letters()
    assert letters.keys() == {f"{batch}-{index}" for index in range(10)}
    assert {len(letter.history) for letter in letters.values()} == {3}
    assert run.simulator.counts.refused == {"20500": 30}


async def test_a_permanent_error_is_final(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url))
    magic = ["+15005550001", "+15005550004", *numbers(8)]
    batch = await run.submit(magic)
    async with run.work():
        assert await run.finished(batch) == {"sent": 8, "dead": 1, "suppressed": 1}
    assert (await run.view(batch)).codes == {"dead:21211": 1, "suppressed:21610": 1}
    (letter,) = (await run.letters()).values()
    assert (letter.status, letter.code, letter.lane[:11]) == ("dead", "21211", "twilio/sms/")
    assert letter.detail == "Invalid 'To' Phone Number"
    assert run.simulator.counts.requests == 10


async def test_throttled_messages_wait_and_use_no_attempt(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url, rate="200/s"))
    run.simulator.set_faults([Refuse(429, retry_after=1, times=3)])
    batch = await run.submit(numbers(200))
    async with run.work():
        assert await run.finished(batch) == {"sent": 200}
    run.assert_each_arrived_once((batch, 200))
    records = (await run.records(batch)).values()
    assert {record.attempts for _, record in records} == {1}
    events = (await run.view(batch)).events
    assert events == {"retried": 0, "deferred": 3}
    assert run.simulator.counts.refused == {"20429": 3}


async def test_a_provider_that_is_down_is_left_alone_until_it_works(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url, rate="100/s"))
    label = f"twilio/{SID}"
    run.simulator.change_account(label, auth_token="1" * 32)
    batch = await run.submit(numbers(150))
    breaker = run.store.keys.name("breaker", "twilio")

    async def is_open() -> bool:
        return await run.store.client.hget(breaker, "state") == b"open"

    async def refused_are_scheduled() -> bool:
        scheduled = (await run.view(batch)).counts["scheduled"]
        return scheduled == run.simulator.counts.requests

    async with run.work():
        await until(is_open)
        await asyncio.sleep(0.5)  # slots given before that are over
        await until(refused_are_scheduled)
        assert 1 <= run.simulator.counts.requests <= 30
        assert (await run.view(batch)).counts["dead"] == 0
        run.simulator.change_account(label, auth_token="0" * 32)
        await run.store.client.hset(breaker, "until", 1)
        await run.make_due()
        assert await run.finished(batch) == {"sent": 150}
    run.assert_each_arrived_once((batch, 150))
    assert set(run.simulator.counts.refused) == {"20003"}
    assert {record.attempts for _, record in (await run.records(batch)).values()} == {1}


@pytest.fixture
async def two_accounts() -> AsyncIterator[Simulator]:
    simulator = Simulator(Settings((TwilioAccount(), TwilioAccount(account_sid=OTHER_SID))))
    yield simulator
    await simulator.stop()


async def test_the_next_provider_of_a_route_takes_over(
    campaign: Start, two_accounts: Simulator
) -> None:
    url = await two_accounts.start()
    route = '[[routes]]\nproviders = ["first", "second"]\n'
    run = campaign(twilio(url, "first") + twilio(url, "second", OTHER_SID) + route)
    run.simulator = two_accounts
    two_accounts.change_account(f"twilio/{SID}", suspended=True)
    batch = await run.submit(numbers(20))
    async with run.work():
        assert await run.finished(batch) == {"sent": 20}
    run.assert_each_arrived_once((batch, 20))
    assert two_accounts.counts.accepted_by_account == {f"twilio/{OTHER_SID}": 20}
    lanes = {record.lane.partition("/")[0] for _, record in (await run.records(batch)).values()}
    assert lanes == {"second"}


@pytest.mark.parametrize(
    "fault",
    [ResetAfter(every=5), Garbage(every=5), Truncate(every=5, wire=True), Hang(every=5)],
    ids=lambda fault: fault.kind,
)
async def test_an_unknown_outcome_is_held_for_a_person(
    campaign: Start, simulator_url: str, fault: Fault
) -> None:
    run = campaign(twilio(simulator_url, timeout="400ms"))
    run.simulator.set_faults([fault])
    batch = await run.submit(numbers(25), class_="bulk")
    async with run.work():
        assert await run.finished(batch) == {"sent": 20, "unknown": 5}
    run.assert_each_arrived_once((batch, 25))
    letters = await run.letters()
    assert {letter.status for letter in letters.values()} == {"unknown"}
    unknown = {index for index, (status, _) in (await run.records(batch)).items() if status == "u"}
    assert letters.keys() == {f"{batch}-{index}" for index in unknown}
    assert (await run.view(batch)).events == {"retried": 0, "deferred": 0}


@pytest.mark.parametrize("fault", [ResetAfter(times=5), Garbage(accept=False, times=5)])
async def test_an_unknown_outcome_is_sent_again_where_that_is_wanted(
    campaign: Start, simulator_url: str, fault: Fault
) -> None:
    run = campaign(twilio(simulator_url) + AT_ONCE)
    run.simulator.set_faults([fault])
    batch = await run.submit(numbers(25), class_="normal")
    async with run.work():
        assert await run.finished(batch) == {"sent": 25}
    arrived = run.arrived()
    assert arrived.keys() == run.ids(batch, 25)
    assert arrived.total() == (30 if isinstance(fault, ResetAfter) else 25)
    assert (await run.view(batch)).events["retried"] == 5


async def test_a_receiver_that_knows_the_key_takes_a_message_once(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(webhook(simulator_url) + AT_ONCE)
    run.simulator.set_faults([ResetAfter(times=5)])
    batch = await run.submit(numbers(25), class_="normal")
    async with run.work():
        assert await run.finished(batch) == {"sent": 25}
    run.assert_each_arrived_once((batch, 25))
    assert run.simulator.counts.repeats == 5


async def test_half_an_answer_with_a_good_status_is_an_answer(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url))
    run.simulator.set_faults([Truncate()])
    batch = await run.submit(numbers(10))
    async with run.work():
        assert await run.finished(batch) == {"sent": 10}
    run.assert_each_arrived_once((batch, 10))


async def test_a_provider_that_cannot_be_reached_costs_attempts_only(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url) + AT_ONCE + "max_attempts = 2\n")
    await run.simulator.stop()
    batch = await run.submit(numbers(5), class_="bulk")
    async with run.work():
        assert await run.finished(batch) == {"dead": 5}
    assert (await run.view(batch)).codes == {"dead:connect": 5}
