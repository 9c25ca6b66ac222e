"""Claim: who is served first, what comes back marked, and what a lane sleeps for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from dispatcher.messages import Status
from dispatcher.store.claims import ClaimedEntry
from dispatcher.store.queue import WorkerLost
from tests.store.cell import LANE, OWN, Cell, entries_of, put_back, settlement, slots_of


def by_class(entries: Iterable[ClaimedEntry]) -> Counter[str]:
    """Slots per class."""
    return _by_part(entries, -2)


def by_tenant(entries: Iterable[ClaimedEntry]) -> Counter[str]:
    """Slots per tenant."""
    return _by_part(entries, -1)


def _by_part(entries: Iterable[ClaimedEntry], part: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in entries:
        found[entry.queue.split(":")[part]] += entry.slots
    return found


async def test_urgent_before_normal_before_bulk_with_a_floor_for_each(cell: Cell) -> None:
    for class_ in ("bulk", "normal", "urgent"):
        await cell.enqueue(300, class_=class_, size=1)
    entries = await cell.claim_entries("w1", 200)
    assert by_class(entries) == {"urgent": 180, "normal": 10, "bulk": 10}
    classes = [entry.queue.rsplit(":", 2)[1] for entry in entries]
    assert classes == ["urgent"] * 180 + ["normal"] * 10 + ["bulk"] * 10
    assert by_class(await cell.claim_entries("w1", 200)) == {
        "urgent": 120,
        "normal": 70,
        "bulk": 10,
    }
    await cell.check()


async def test_a_slow_lane_gives_the_lower_classes_every_twentieth_slot(cell: Cell) -> None:
    for class_ in ("bulk", "normal", "urgent"):
        await cell.enqueue(100, class_=class_, size=1)
    seen: Counter[str] = Counter()
    for _ in range(60):
        seen += by_class(await cell.claim_entries("w1", 1))
    assert seen["urgent"] + seen["normal"] + seen["bulk"] == 60
    assert 2 <= seen["normal"] <= 3
    assert 2 <= seen["bulk"] <= 3


async def test_tenants_share_by_weight(cell: Cell) -> None:
    for tenant, weight in (("one", 1.0), ("three", 3.0)):
        await cell.enqueue(400, tenant=tenant, weight=weight, size=1)
    seen: Counter[str] = Counter()
    for _ in range(40):
        seen += by_tenant(await cell.claim_entries("w1", 10))
    assert seen.total() == 400
    assert 95 <= seen["one"] <= 110
    await cell.check()


async def test_a_new_tenant_enters_at_the_time_of_the_lane(cell: Cell) -> None:
    await cell.enqueue(400, tenant="old", size=1)
    for _ in range(10):
        await cell.claim("w1", 10)
    await cell.enqueue(400, tenant="new", size=1)
    seen: Counter[str] = Counter()
    for _ in range(20):
        seen += by_tenant(await cell.claim_entries("w1", 10))
    assert 90 <= seen["new"] <= 115


async def test_what_was_put_back_gets_at_most_half(cell: Cell) -> None:
    await cell.enqueue(100, size=1)
    await cell.settle("w1", *(put_back(entry) for entry in await cell.claim_entries("w1")))
    await cell.enqueue(100, size=1)
    assert by_tenant(await cell.claim_entries("w1", 20)) == {"~": 10, "default": 10}
    assert by_tenant(await cell.claim_entries("w1", 300)) == {"~": 90, "default": 90}
    await cell.check()


async def test_what_was_put_back_gets_everything_when_nothing_else_waits(cell: Cell) -> None:
    await cell.enqueue(100, size=1)
    await cell.settle("w1", *(put_back(entry) for entry in await cell.claim_entries("w1")))
    assert by_tenant(await cell.claim_entries("w1", 60)) == {"~": 60}
    await cell.check()


async def test_expired_and_cancelled_entries_are_marked_and_cost_nothing(cell: Cell) -> None:
    await cell.limit(OWN, rate=1)
    now_us = (await cell.queue.heartbeat("w1")).now_us
    await cell.enqueue(5, expires_us=now_us - 1)
    await cell.enqueue(1)
    claim = await cell.claim("w1")
    entries = entries_of(claim)
    assert [(entry.mark, entry.slots) for entry in entries] == [("expired", 0), ("", 1)]
    assert slots_of(claim) == 1
    assert sorted((await cell.held("w1")).values()) == ["0", "1"]
    await cell.settle("w1", settlement(entries[0], Status.EXPIRED), settlement(entries[1]))
    await cell.client.hset(cell.keys.name("batch", cell.batch), "cancel", 1)
    await cell.enqueue(2)
    await cell.pass_time(1)
    (entry,) = await cell.claim_entries("w1")
    assert (entry.mark, entry.slots, entry.count) == ("cancelled", 0, 2)
    await cell.settle("w1", settlement(entry, Status.CANCELLED))
    assert Counter((await cell.check()).values()) == {"expired": 5, "sent": 1, "cancelled": 2}


async def test_many_marked_entries_are_spread_over_turns_and_hide_no_other_lane(cell: Cell) -> None:
    now_us = (await cell.queue.heartbeat("w1")).now_us
    await cell.enqueue(200, size=1, expires_us=now_us - 1)
    await cell.enqueue(50, size=1, class_="bulk")
    await cell.enqueue(50, "p/sms/b", size=1)
    entries = await cell.claim_entries("w1")
    assert Counter(entry.mark for entry in entries)["expired"] <= 64
    await cell.check()
    for _ in range(10):
        entries += await cell.claim_entries("w1")
    assert Counter(entry.mark for entry in entries) == {"expired": 200, "": 100}
    await cell.check()


async def test_a_grant_may_end_inside_an_entry_and_the_rest_is_booked_first(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(40, size=40)
    await cell.enqueue(5, size=5)
    first = await cell.claim("w1")
    (entry,) = entries_of(first)
    assert (entry.count, entry.slots) == (40, 15)
    assert await cell.held("w1") == {entry.field: "15"}
    await cell.pass_time(0.1)
    second = await cell.claim("w1", held=[(LANE, 0, [(entry.field, 25)])])
    assert [(g.booked, g.count, len(g.entries)) for g in second.grants] == [
        ([(entry.field, 10)], 10, 0)
    ]
    assert (await cell.claim("w1", held=[(LANE, 0, [(entry.field, 15)])])).grants == []
    await cell.pass_time(0.2)
    third = await cell.claim("w1", held=[(LANE, 0, [(entry.field, 15)])])
    assert [(g.booked, g.count) for g in third.grants] == [([(entry.field, 15)], 15)]
    assert await cell.held("w1") == {entry.field: "40"}
    await cell.pass_time(0.2)
    assert [one.slots for one in entries_of(await cell.claim("w1"))] == [5]
    await cell.check()


async def test_a_worker_that_cannot_keep_up_is_given_less(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(40, size=1)
    claim = await cell.claim("w1", held=[(LANE, 4, [])])
    assert slots_of(claim) == 4


async def test_a_suspended_lane_sleeps_until_its_time(cell: Cell) -> None:
    await cell.enqueue(10)
    await cell.suspend(LANE, 60)
    claim = await cell.claim("w1")
    assert claim.grants == []
    assert 59_000_000 < claim.next_us <= 60_000_000
    await cell.pass_time(60)
    assert slots_of(await cell.claim("w1")) == 10
    await cell.check()


async def test_lanes_without_a_rate_share_the_room(cell: Cell) -> None:
    for carrier in "abc":
        await cell.enqueue(100, f"p/sms/{carrier}", size=1)
    claim = await cell.claim("w1", 160)
    assert [(grant.lane, grant.count) for grant in claim.grants] == [
        ("p/sms/a", 80),
        ("p/sms/b", 50),
        ("p/sms/c", 30),
    ]
    await cell.check()


async def test_an_emptied_lane_is_listed_no_more(cell: Cell) -> None:
    await cell.enqueue(3)
    await cell.finish("w1", await cell.claim_entries("w1"))
    assert entries_of(await cell.claim("w1")) == []
    assert await cell.client.zcard(cell.keys.name("lanes", "p")) == 0
    assert await cell.queues() == []


async def test_only_lanes_of_the_provider_are_claimed(cell: Cell) -> None:
    await cell.enqueue(3)
    assert (await cell.claim("w1", provider="other")).grants == []


async def test_a_claim_whose_reply_was_lost_gives_nothing_twice(cell: Cell) -> None:
    await cell.enqueue(20, size=5)
    lost = await cell.claim_entries("w1", 10)
    kept = await cell.claim_entries("w1", 5)
    assert not {entry.id for entry in lost} & {entry.id for entry in kept}
    assert await cell.queue.reclaim_unseen("w1", "p", 0, [kept[0].field]) in (10, 0)
    assert Counter((await cell.check()).values()) == {"queue": 15, "held:w1": 5}
    again = await cell.claim_entries("w1")
    assert sum(entry.count for entry in again) == 15
    assert {entry.ambiguous for entry in again if entry.queue.endswith("~")} == {0}


async def test_a_stranger_gets_nothing(cell: Cell) -> None:
    await cell.enqueue(1)
    with pytest.raises(WorkerLost):
        await cell.claim("stranger")
    assert await cell.check() == {0: "queue"}


async def test_what_is_held_of_the_returned_may_use_up_all_slots(cell: Cell) -> None:
    await cell.enqueue(80, size=40)
    first, second = await cell.claim_entries("w1", 80)
    await cell.settle("w1", put_back(first), put_back(second))
    await cell.limit(OWN, rate=100)
    (entry,) = await cell.claim_entries("w1")
    rest = entry.count - entry.slots
    for _ in range(2):
        await cell.pass_time(0.1)
        claim = await cell.claim("w1", held=[(LANE, 0, [(entry.field, rest)])])
        rest -= sum(count for grant in claim.grants for _, count in grant.booked)
    await cell.check()
