"""A provider asks for less: what that does to an account, a sender, a recipient, other workers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest

from dispatcher.messages import Status
from dispatcher.settings import StoreConfig
from dispatcher.simulator import Refuse, Slow
from tests.campaign import Campaign, numbers, twilio, until

Start = Callable[[str], Campaign]
FIRST, SECOND = "+4915550006", "+4915550007"
FIRST_TO, SECOND_TO = "+491510", "+491519"
"""Recipients of one carrier, told apart by the simulator."""
ON_THE_WAY = 20
"""Of 100 messages, those of one grant, which may have left before the first refusal is read."""
WRITES = re.compile(
    r"cmdstat_(set|hset|hdel|hincrby|incr|incrby|zadd|zrem|xadd|xack|xdel|xgroup|xreadgroup|del"
    r"|expire|persist|rpush|publish)\b.*"
)


@pytest.fixture
def store_config(store_server: StoreConfig, tmp_path: object) -> StoreConfig:
    """A store of its own, whose commands are counted."""
    return StoreConfig(data_dir=f"{tmp_path}/store")


def per_sender(rate: str) -> str:
    return f'[[limits]]\nname = "numbers"\neach = "sender"\nrate = "{rate}"\n'


async def state(run: Campaign, kind: str, name: str) -> set[bytes | str]:
    """The fields of the hash of a limit or a lane."""
    return set(await run.store.client.hkeys(run.store.keys.name(kind, name)))


async def writes(run: Campaign) -> int:
    """Commands so far that write or publish, those of scripts included."""
    stats = await run.store.client.info("commandstats")
    return sum(of["calls"] for name, of in stats.items() if WRITES.fullmatch(name))


async def paused_lanes(run: Campaign) -> list[str]:
    start = run.store.keys.name("lane", "")
    names = [name.decode() async for name in run.store.client.scan_iter(f"{start}*", 1000)]
    assert names
    lanes = [name.removeprefix(f"{start}:") for name in names]
    return [lane for lane in lanes if b"paused" in await state(run, "lane", lane)]


def refusals(run: Campaign) -> int:
    return sum(run.simulator.counts.refused.values())


async def deferred(run: Campaign, batch: str) -> int:
    return (await run.view(batch)).events["deferred"]


async def test_throttled_messages_cost_the_store_next_to_nothing(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url, concurrency=100))
    run.simulator.set_faults([Slow(seconds=0.5), Refuse(429, retry_after=60)])
    batch = await run.submit(numbers(500))

    async def all_out() -> bool:
        return run.simulator.counts.requests >= 90

    async def paused() -> bool:
        return b"pause" in await state(run, "limit", "provider:twilio")

    async with run.work():
        await until(all_out)
        before = await writes(run)
        await until(paused)
    assert await writes(run) - before <= 2 * 90
    assert run.simulator.counts.requests == refusals(run) == 90
    assert await deferred(run, batch) == 90
    assert await run.counts(batch) == {"queued": 500}


async def test_what_is_throttled_while_the_worker_ends_is_counted_and_returned(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url, concurrency=100))
    halves = [Slow(seconds=0.7, every=2), Slow(seconds=0.2), Refuse(429, retry_after=60)]
    run.simulator.set_faults(halves)
    batch = await run.submit(numbers(500))

    async def paused() -> bool:
        return b"pause" in await state(run, "limit", "provider:twilio")

    async with run.work():
        await until(paused)
    assert await deferred(run, batch) == run.simulator.counts.requests == refusals(run)
    assert await run.counts(batch) == {"queued": 500}


async def test_messages_wait_out_a_pause_with_their_worker(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url, rate="100/s"))
    run.simulator.set_faults([Slow(seconds=0.1), Refuse(429, retry_after=1, every=30, times=2)])
    batch = await run.submit(numbers(150))
    async with run.work():
        assert await run.finished(batch) == {"sent": 150}
    run.assert_each_arrived_once((batch, 150))
    assert (await run.view(batch)).events == {"retried": 0, "deferred": 2}
    assert {record.attempts for _, record in (await run.records(batch)).values()} == {1}


async def test_one_sender_pauses_and_the_others_go_on(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url) + per_sender("200/s"))
    run.simulator.set_faults([Refuse(code="21611", to=FIRST_TO, retry_after=60)])
    full = await run.submit(numbers(100, FIRST_TO + "0"), sender=FIRST)
    free = await run.submit(numbers(100, SECOND_TO + "0"), sender=SECOND)
    async with run.work():
        assert await run.finished(free) == {"sent": 100}
        assert b"pause" in await state(run, "limit", f"numbers/{FIRST}")
        for other in (f"numbers/{SECOND}", "provider:twilio"):
            assert b"interval" in (known := await state(run, "limit", other))
            assert b"pause" not in known
    assert await run.counts(full) == {"queued": 100}
    assert await deferred(run, full) == refusals(run) <= ON_THE_WAY
    assert {entry.sender for entry in run.simulator.journal.entries() if not entry.code} == {SECOND}


async def test_without_a_limit_of_the_sender_its_lane_pauses(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url, rate="100/s"))
    run.simulator.set_faults([Refuse(code="30022", to="+49151", retry_after=60)])
    full, free = await run.submit(numbers(100)), await run.submit(numbers(100, "+44747"))
    async with run.work():
        assert await run.finished(free) == {"sent": 100}
        assert b"pause" not in await state(run, "limit", "provider:twilio")
        (paused,) = await paused_lanes(run)
        assert {record.lane for _, record in (await run.records(free)).values()}.isdisjoint(
            [paused]
        )
    assert await run.counts(full) == {"queued": 100}
    assert await deferred(run, full) == refusals(run) <= ON_THE_WAY


async def test_one_recipient_waits_and_nobody_else(campaign: Start, simulator_url: str) -> None:
    run = campaign(twilio(simulator_url, rate="500/s"))
    looped = numbers(1)[0]
    run.simulator.set_faults([Refuse(code="14107", to=looped, retry_after=60, times=1)])
    batch = await run.submit(numbers(100))

    async def others_sent() -> bool:
        return await run.counts(batch) == {"sent": 99, "scheduled": 1}

    async with run.work():
        await until(others_sent)
        assert b"pause" not in await state(run, "limit", "provider:twilio")
        assert await paused_lanes(run) == []
        status, record = (await run.records(batch))[0]
        assert (status, record.code, record.attempts) == (Status.SCHEDULED, "14107", 0)
        await run.make_due()
        assert await run.finished(batch) == {"sent": 100}
    run.assert_each_arrived_once((batch, 100))


async def test_a_pause_stops_the_slots_of_all_workers(campaign: Start, simulator_url: str) -> None:
    """Each of two workers has 18 requests on the wire and further slots in hand. The last request
    is refused at once; the other answers come long after, and nothing may follow them."""
    run = campaign(twilio(simulator_url, concurrency=20))
    run.simulator.set_faults([Refuse(429, every=36, times=1, retry_after=60), Slow(seconds=1.5)])
    batch = await run.submit(numbers(2000))

    async def all_answered() -> bool:
        return (await run.view(batch)).counts["sent"] == 35

    async with run.work(), run.work():
        await until(all_answered)
    assert run.simulator.counts.requests == 36
    assert await run.counts(batch) == {"sent": 35, "queued": 1965}
    assert (await run.view(batch)).events["deferred"] == 1


async def test_a_changed_limit_takes_back_slots_already_granted(
    campaign: Start, simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url, concurrency=20))
    run.simulator.set_faults([Slow(seconds=1.5)])
    batch = await run.submit(numbers(2000))

    async def all_out() -> bool:
        return run.simulator.counts.requests == 18

    async def all_answered() -> bool:
        return (await run.view(batch)).counts["sent"] == 18

    async with run.work():
        await until(all_out)
        limit = run.store.keys.name("limit", "provider:twilio")
        now_us = (await run.store.queue.heartbeat("clock", first=True)).now_us
        await run.store.client.hset(limit, "pause", now_us + 60_000_000)
        control = run.store.keys.name("control")
        await run.store.client.incr(control)
        await run.store.client.publish(control, "provider:twilio")
        await until(all_answered)
    assert run.simulator.counts.requests == 18
    assert Counter(await run.counts(batch)) == {"sent": 18, "queued": 1982}
