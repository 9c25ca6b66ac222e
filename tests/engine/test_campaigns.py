"""Whole campaigns against the simulated provider, when all goes well."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dispatcher.messages import Content, Status, encode_body
from dispatcher.store.queue import NewEntry, NewLane
from tests.campaign import Campaign, numbers, twilio, until

Start = Callable[[str], Campaign]


async def test_every_message_arrives_once(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url))
    batches = [await run.submit(numbers(1200, prefix)) for prefix in ("+49151", "+44747")]
    async with run.work():
        for batch in batches:
            assert await run.finished(batch) == {"sent": 1200}
    run.assert_each_arrived_once(*((batch, 1200) for batch in batches))
    records = await run.records(batches[0])
    assert {(status, record.attempts) for status, record in records.values()} == {(Status.SENT, 1)}
    sids = {record.provider_id for _, record in records.values()}
    assert sids <= {entry.id for entry in run.simulator.journal.entries()}
    assert await run.is_empty()


async def test_a_worker_that_waits_is_woken(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url))
    async with run.work():
        for _ in range(3):
            batch = await run.submit(numbers(5))
            assert await run.finished(batch) == {"sent": 5}


async def test_messages_wait_for_their_time(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url))
    now_us = (await run.store.queue.heartbeat("clock", first=True)).now_us
    later = await run.submit(numbers(5), send_at_us=now_us + 3_600_000_000)
    now = await run.submit(numbers(5))
    async with run.work():
        assert await run.finished(now) == {"sent": 5}
        assert await run.counts(later) == {"scheduled": 5}
        await run.make_due()
        assert await run.finished(later) == {"sent": 5}
    run.assert_each_arrived_once((later, 5), (now, 5))


async def test_a_recipient_keeps_the_sender(campaign: Start, simulator_url: str) -> None:
    pool = ["+4915550001", "+4915550002", "+4915550003"]
    run = campaign(twilio(simulator_url) + f"[senders.shop]\ntwilio = {pool}\n")
    for _ in range(2):
        batch = await run.submit(numbers(60), sender="shop")
        async with run.work():
            await run.finished(batch)
    senders: dict[str, set[str]] = {}
    for entry in run.simulator.journal.entries():
        senders.setdefault(entry.to, set()).add(entry.sender)
    assert len(senders) == 60
    assert {len(used) for used in senders.values()} == {1}
    assert set().union(*senders.values()) == set(pool)


async def test_only_allowed_recipients_are_sent_to(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url) + '[safety]\nallow = ["+4474*"]\n')
    batch = await run.submit([*numbers(4), *numbers(3, "+44747")])
    async with run.work():
        assert await run.finished(batch) == {"sent": 3, "suppressed": 4}
    assert (await run.view(batch)).codes == {"suppressed:not_allowed": 4}
    assert {entry.to[:6] for entry in run.simulator.journal.entries()} == {"+44747"}


async def test_what_cannot_be_composed_holds_up_no_other(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url))
    envelope = run.open().envelope
    broken = msgspec.structs.replace(envelope, content=Content(text="Hi {"))
    await enqueue_body(run, envelope.batch, 2, encode_body(broken, [(0, "+49151"), (1, "+49152")]))
    good = await run.submit(numbers(20))
    async with run.work():
        assert await run.finished(good) == {"sent": 20}
        assert await run.finished(envelope.batch) == {"dead": 2}
    assert [letter.code for letter in (await run.letters()).values()] == ["invalid_template"] * 2


async def test_an_unknown_format_waits_for_who_knows_it(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url))
    batch, body = run.open().envelope.batch, b"\x93\x63\xa3new\xa6format"
    await enqueue_body(run, batch, 7, body)
    good = await run.submit(numbers(20))

    async def deferred() -> bool:
        return await run.counts(batch) == {"scheduled": 7}

    async with run.work():
        for _ in range(2):
            await until(deferred)
            await run.make_due()
        await until(deferred)
        assert await run.finished(good) == {"sent": 20}
    (item,) = await run.store.client.hvals(run.store.keys.name("items"))
    assert body in item


async def enqueue_body(run: Campaign, batch: str, count: int, body: bytes) -> None:
    """One entry with this body, past the checks of ingest."""
    lane = "twilio/sms/de-telekom"
    await run.store.queue.enqueue(
        batch,
        0,
        "",
        tenant="default",
        channel="sms",
        options="",
        max_queued=0,
        lanes=[NewLane(lane, ("provider:twilio",))],
        entries=[NewEntry(lane, "normal", count, 1, 0, 0, body)],
    )
