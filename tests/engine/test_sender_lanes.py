"""Lanes of senders and tenants on their way through workers, and where failover leads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from dispatcher.messages import Content, Record, Status
from dispatcher.policy.routing import pick_sender
from dispatcher.simulator import Settings, Simulator, TwilioAccount
from tests.campaign import SID, Campaign, numbers, twilio

Start = Callable[[str], Campaign]
OTHER_SID = "AC" + "1" * 32
POOLS = {
    "first": [f"+4915550{number:05}" for number in range(4)],
    "second": [f"+4915551{number:05}" for number in range(3)],
}
SHOP = "".join(
    ["[senders.shop]\n"]
    + [f"{name} = {msgspec.json.encode(pool).decode()}\n" for name, pool in POOLS.items()]
)
EACH = '[[limits]]\nname = "numbers"\neach = "sender"\nrate = "200/s"\n'
ACME = '[tenants.acme]\nrate = "500/day"\n'
ROUTE = '[[routes]]\nproviders = ["first", "second"]\n'


@pytest.fixture
async def two_accounts() -> AsyncIterator[Simulator]:
    simulator = Simulator(Settings((TwilioAccount(), TwilioAccount(account_sid=OTHER_SID))))
    yield simulator
    await simulator.stop()


def lanes(records: dict[int, tuple[Status, Record]]) -> dict[str, str]:
    return {record.to: record.lane for _, record in records.values()}


def senders(simulator: Simulator) -> dict[str, str]:
    """What the provider was told to show each recipient."""
    entries = simulator.journal.entries()
    return {entry.to: entry.sender for entry in entries if entry.event == "accepted"}


async def test_messages_pass_through_the_lane_of_the_sender_they_show(
    campaign: Start, two_accounts: Simulator
) -> None:
    url = await two_accounts.start()
    run = campaign(twilio(url, "first") + twilio(url, "second", OTHER_SID) + SHOP + EACH + ROUTE)
    run.simulator = two_accounts
    people = numbers(60)
    batch = await run.submit(people, sender="shop")
    async with run.work():
        assert await run.finished(batch) == {"sent": 60}
    run.assert_each_arrived_once((batch, 60))
    shown = {to: pick_sender(POOLS["first"], to) for to in people}
    assert len(set(shown.values())) == 4
    assert senders(two_accounts) == shown
    assert lanes(await run.records(batch)) == {
        to: f"first/sms/de/sender={sender}" for to, sender in shown.items()
    }
    for sender in POOLS["first"]:
        state = await run.store.client.hgetall(run.store.keys.name("limit", f"numbers/{sender}"))
        assert float(state[b"interval"]) == 5000
        assert int(state[b"tat"]) > 0


async def test_failover_leads_to_the_lane_of_the_other_sender(
    campaign: Start, two_accounts: Simulator
) -> None:
    url = await two_accounts.start()
    accounts = twilio(url, "first") + twilio(url, "second", OTHER_SID)
    daily = EACH.replace("200/s", "500/day")  # not spaced: all go before the breaker opens
    run = campaign(accounts + SHOP + daily + ACME + ROUTE)
    run.simulator = two_accounts
    two_accounts.change_account(f"twilio/{SID}", suspended=True)
    people = numbers(30)
    batch = await run.submit(people, sender="shop", tenant="acme")
    async with run.work():
        assert await run.finished(batch) == {"sent": 30}
    run.assert_each_arrived_once((batch, 30))
    shown = {to: pick_sender(POOLS["second"], to) for to in people}
    assert senders(two_accounts) == shown
    assert lanes(await run.records(batch)) == {
        to: f"second/sms/de/sender={sender}/tenant=acme" for to, sender in shown.items()
    }


async def test_failover_charges_the_segments_of_the_other_provider(
    campaign: Start, two_accounts: Simulator
) -> None:
    url = await two_accounts.start()
    parts = '[[limits]]\nname = "parts"\nprovider = "second"\nunit = "segment"\nrate = "3/day"\n'
    run = campaign(twilio(url, "first") + twilio(url, "second", OTHER_SID) + parts + ROUTE)
    run.simulator = two_accounts
    two_accounts.change_account(f"twilio/{SID}", suspended=True)
    batch = await run.submit(numbers(1), content=Content("x" * 400))
    async with run.work():
        assert await run.finished(batch) == {"sent": 1}
    used = await run.store.client.hget(run.store.keys.name("limit", "parts"), "used:day")
    assert used == b"3"


async def test_limits_of_values_follow_the_configuration(
    configure: Callable[[str], object], campaign: Start, simulator_url: str
) -> None:
    hook = twilio(simulator_url)
    run = campaign(hook + EACH)
    batch = await run.submit(numbers(3), sender="+4915550006")
    async with run.work():
        assert await run.finished(batch) == {"sent": 3}
    name = run.store.keys.name("limit", "numbers/+4915550006")
    assert float(await run.store.client.hget(name, "interval") or 0) == 5_000
    again = campaign(hook + EACH.replace("200/s", "100/s"))
    async with again.work():
        assert await again.finished(await again.submit(numbers(1), sender="+4915550006"))
    assert float(await run.store.client.hget(name, "interval") or 0) == 10_000
