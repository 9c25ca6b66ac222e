"""Suspended lanes: nothing of them is given slots, whenever they come, until their end or a resume;
running the script twice changes nothing more."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.store.suspensions import FOREVER_US, covers
from tests.store.cell import LANE, Cell, action, entries_of, slots_of

PATTERNS = [
    ("p/sms/a", "p/sms/a", True),
    ("p/sms/a", "p/sms/a/sender=X", True),
    ("p/sms/a", "p/sms/ab", False),
    ("p", "p/sms/a", True),
    ("p", "pq/sms/a", False),
    ("p/sms/us*", "p/sms/us-att/tenant=t", True),
    ("p/sms/us*", "p/sms/us", True),
    ("p/sms/us*", "p/sms/de", False),
    ("*", "p/sms/a", True),
    ("*/sms/a", "p/sms/a", True),
    ("*/sms/a", "p/mms/a", False),
    ("p/*/a", "p/sms/b", False),
    ("p**a", "p/sms/a", True),
    ("*a*a", "p/sms/a", False),
    ("p/sms/a*a", "p/sms/a", False),
    ("p/s.s/a", "p/sms/a", False),
    ("", "p/sms/a", False),
]


@pytest.mark.parametrize(("pattern", "lane", "held"), PATTERNS)
async def test_which_lanes_a_pattern_holds_for(
    cell: Cell, pattern: str, lane: str, held: bool
) -> None:
    assert covers(pattern, lane) == held
    provider = lane.partition("/")[0]
    await cell.limit(f"provider:{provider}")
    await cell.enqueue(1, lane)
    if pattern:
        assert (await cell.suspend(pattern, 60)).lanes == ([lane] if held else [])
    assert bool(entries_of(await cell.claim("w1", provider=provider))) != held
    (view,) = await cell.store.inspector.lanes([lane])
    assert (view.suspended_us > 0, view.reason) == ((True, "because") if held else (False, ""))


async def test_it_ends_by_itself(cell: Cell) -> None:
    await cell.enqueue(1)
    before = await cell.store.inspector.now_us()
    suspended = await cell.suspend(LANE, 60)
    assert before + 60_000_000 <= suspended.until_us <= before + 120_000_000
    assert slots_of(await cell.claim("w1")) == 0
    await cell.pass_time(61)
    assert slots_of(await cell.claim("w1")) == 1
    assert (await cell.store.inspector.suspensions()).holding == ()


async def test_forever_ends_with_a_resume(cell: Cell) -> None:
    await cell.enqueue(1)
    assert (await cell.suspend(LANE)).until_us == FOREVER_US
    await cell.pass_time(400 * 86_400)
    assert slots_of(await cell.claim("w1")) == 0
    resumed = await cell.resume(LANE)
    assert resumed is not None and resumed.lanes == [LANE]
    assert slots_of(await cell.claim("w1")) == 1
    assert not await cell.client.exists(cell.keys.name("suspended"), cell.keys.name("resumed"))


async def test_lanes_that_come_later_are_held(cell: Cell) -> None:
    await cell.suspend("p/sms/us*", 60)
    await cell.enqueue(1, "p/sms/us-att")
    await cell.enqueue(1, "p/sms/us-new", class_="urgent")
    await cell.enqueue(1, "p/sms/us-due", due_us=1)
    await cell.enqueue(1, "p/sms/de")
    (entry,) = entries_of(await cell.claim("w1"))
    assert entry.queue.startswith("p/sms/de:")


async def test_what_a_worker_holds_gets_no_more_slots(cell: Cell) -> None:
    await cell.limit(rate=100)
    await cell.enqueue(40, size=40)
    first = await cell.claim("w1")
    (entry,) = entries_of(first)
    left = 40 - slots_of(first)
    assert left > 0
    await cell.suspend(LANE, 60)
    await cell.pass_time(1)
    assert slots_of(await cell.claim("w1", held=[(LANE, 0, [(entry.field, left)])])) == 0
    await cell.pass_time(60)
    booked = await cell.claim("w1", held=[(LANE, 0, [(entry.field, left)])])
    assert [grant.booked[0][0] for grant in booked.grants] == [entry.field]


async def test_one_lane_of_many_goes_on(cell: Cell) -> None:
    for carrier in "abc":
        await cell.enqueue(1, f"p/sms/{carrier}")
    await cell.suspend("p/*")
    await cell.suspend("p/sms/a", 3600)
    assert slots_of(await cell.claim("w1")) == 0
    resumed = await cell.resume("p/sms/a")
    assert resumed is not None and resumed.lanes == ["p/sms/a"]
    assert [grant.lane for grant in (await cell.claim("w1")).grants] == ["p/sms/a"]
    await cell.enqueue(1, "p/sms/d")
    await cell.enqueue(1, "p/sms/a")
    assert [grant.lane for grant in (await cell.claim("w1")).grants] == ["p/sms/a"]
    await cell.suspend("p/sms/a", 60)
    await cell.enqueue(1, "p/sms/a")
    assert slots_of(await cell.claim("w1")) == 0
    await cell.pass_time(61)
    assert [grant.lane for grant in (await cell.claim("w1")).grants] == ["p/sms/a"]
    await cell.resume("p")
    left = {grant.lane for grant in (await cell.claim("w1")).grants}
    assert left == {"p/sms/b", "p/sms/c", "p/sms/d"}
    assert not await cell.client.exists(cell.keys.name("suspended"), cell.keys.name("resumed"))


async def test_the_longest_holds(cell: Cell) -> None:
    await cell.suspend("p/sms/a")
    await cell.suspend("p", 60)
    await cell.enqueue(1)
    await cell.pass_time(61)
    assert slots_of(await cell.claim("w1")) == 0


async def test_a_new_end_for_the_same_lanes(cell: Cell) -> None:
    await cell.enqueue(1)
    await cell.suspend(LANE)
    assert slots_of(await cell.claim("w1")) == 0
    await cell.suspend(LANE, 60)
    claim = await cell.claim("w1")
    assert claim.grants == []
    assert claim.next_us <= 60_000_000


async def test_a_resume_of_nothing_says_so(cell: Cell) -> None:
    await cell.enqueue(1)
    assert await cell.resume(LANE) is None
    await cell.suspend("p/sms/b")
    assert await cell.resume(LANE) is None
    assert await cell.client.zcard(cell.keys.name("audit")) == 1


async def test_it_is_announced_and_wakes_a_worker(cell: Cell) -> None:
    pubsub = cell.client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(cell.keys.name("control"))
    await cell.enqueue(1)
    await cell.suspend("p/*")
    await cell.claim("w1")
    await cell.client.delete(cell.keys.name("bell", "p"))
    await cell.resume("p/*")
    heard: list[bytes] = []
    async with asyncio.timeout(10):
        while len(heard) < 2:
            if message := await pubsub.get_message(timeout=1):
                heard.append(message["data"])
    assert set(heard) == {b"lane:p/*"}
    assert await cell.client.llen(cell.keys.name("bell", "p")) == 1
    await pubsub.aclose()  # type: ignore[no-untyped-call]


async def test_who_did_it_is_kept(cell: Cell) -> None:
    await cell.enqueue(1)
    suspend = action("suspend", "p/*")
    await cell.operations.suspend("p/*", 60, suspend)
    (kept,) = await cell.store.inspector.actions()
    assert (kept.id, kept.who, kept.what, kept.on) == (suspend.id, "ann", "suspend", "p/*")
    assert (kept.reason, kept.affected) == ("because", 1)
    assert abs(kept.at_us - await cell.store.inspector.now_us()) < 60_000_000
