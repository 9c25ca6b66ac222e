"""Backlogs of all kinds come to their end: no message is stranded, no lane stands in the way."""

from __future__ import annotations

import random

import pytest

from dispatcher.limits import CalendarQuota, Limit
from dispatcher.messages import Status
from dispatcher.store.queue import NewLane
from tests.store.cell import LANE, OWN, Cell, entries_of, settlement, slots_of
from tests.store.test_claim_shares import Hands


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_lies_in_the_lanes_gets_its_slots(cell: Cell, seed: int) -> None:
    chance = random.Random(seed)
    await cell.limit(OWN, rate=chance.choice([0, 200, 1000]), burst=chance.choice([1, 20]))
    await cell.limit(
        "parts", rate=chance.choice([50, 400]), burst=chance.choice([1, 50]), segments=True
    )
    await cell.limit("carrier:a", rate=chance.choice([50, 100]), burst=chance.choice([1, 30]))
    met = {"a": (OWN, "parts"), "b": (OWN, "carrier:a"), "c": (OWN, "carrier:a", "parts")}
    total = 0
    for _ in range(12):
        name, count = chance.choice("abc"), chance.randrange(5, 60)
        total += count
        await cell.enqueue(
            count,
            f"p/sms/{name}",
            class_=chance.choice(["urgent", "normal", "bulk"]),
            tenant=chance.choice(["t", "u"]),
            weight=chance.choice([0.5, 3.0]),
            limits=met[name],
            size=chance.choice([1, 5, 20]),
            cost=chance.choice([1, 2, 3, 5]),
        )
    await cell.worker("w2")
    hands = {"w1": Hands(), "w2": Hands()}
    for _ in range(600):
        worker = chance.choice(["w1", "w2"])
        room = chance.choice([3, 50, 1000])
        hands[worker].take(await cell.claim(worker, room, held=hands[worker].wants()))
        if sum(sum(hand.sent.values()) for hand in hands.values()) == total:
            break
        await cell.pass_time(0.05)
    assert sum(sum(hand.sent.values()) for hand in hands.values()) == total
    assert not any(hand.held for hand in hands.values())
    await cell.check()


async def test_a_message_that_costs_more_than_a_quota_has_left_waits_for_the_next_day(
    cell: Cell,
) -> None:
    ends = (await cell.queue.heartbeat("w1")).now_us + 3_600_000_000
    quota = CalendarQuota(5, "day", (ends, ends + 86_400_000_000))
    await cell.queue.write_limits([Limit(OWN, segments=True, quotas=(quota,))])
    await cell.enqueue(3, size=1, cost=3)
    hands = Hands()
    for _ in range(4):
        claim = await cell.claim("w1", held=hands.wants())
        hands.take(claim)
    assert sum(hands.sent.values()) == 1
    assert claim.next_us > 3_500_000_000
    quota = CalendarQuota(50, "day", (ends, ends + 86_400_000_000))
    await cell.queue.write_limits([Limit(OWN, segments=True, quotas=(quota,))])
    for _ in range(3):
        hands.take(await cell.claim("w1", held=hands.wants()))
    assert sum(hands.sent.values()) == 3
    await cell.check()


async def test_lower_classes_keep_their_twentieth_while_urgent_ones_pour_in(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    for class_ in ("normal", "bulk", "urgent"):
        await cell.enqueue(2000, class_=class_, size=20)
    hands = Hands()
    for _ in range(60):
        hands.take(await cell.claim("w1", held=hands.wants()))
        await cell.pass_time(0.1)
    counts = {class_: hands.sent[f"{LANE}:{class_}:default"] for class_ in ("normal", "bulk")}
    total = sum(hands.sent.values())
    assert min(counts.values()) >= 0.03 * total
    assert max(counts.values()) <= 0.08 * total


async def test_a_heap_of_expired_entries_keeps_no_other_lane_waiting(cell: Cell) -> None:
    past = (await cell.queue.heartbeat("w1")).now_us
    await cell.enqueue(1000, size=1, expires_us=past)
    await cell.enqueue(1, "p/sms/b", class_="urgent")
    found = []
    for _ in range(4):
        found += entries_of(await cell.claim("w1"))
    assert "p/sms/b:urgent:default" in {entry.queue for entry in found}


async def test_a_cancelled_batch_is_dropped_in_few_claims(cell: Cell) -> None:
    await cell.limit(OWN, rate=10)
    await cell.enqueue(5000, size=1)
    batch = cell.batch
    await cell.client.hset(cell.keys.name("batch", batch), "cancel", "1")
    for _ in range(6):
        for entry in entries_of(await cell.claim("w1")):
            await cell.settle("w1", settlement(entry, Status.CANCELLED))
    assert await cell.queues() == []
    counts = await cell.counts()
    assert (counts["cancelled"], counts["left"]) == (5000, 0)
    assert int(await cell.client.get(cell.keys.name("queued")) or 0) == 0
    assert await cell.client.hgetall(cell.keys.name("queued_by")) == {}
    assert (await cell.lane())["depth:normal"] == "0"


async def test_a_request_may_probe_where_requests_are_counted(cell: Cell) -> None:
    await cell.enqueue(50, size=5)
    await cell.enqueue(50, "p/sms/b", size=5)
    await cell.settle("w1", breakers=[("p", 0, 1, 1)])
    await cell.pass_time(6)
    claim = await cell.queue.claim("p", "w1", 100, 10, [], 10)
    assert (claim.breaker, slots_of(claim)) == ("probe", 10)
    assert len({grant.lane for grant in claim.grants}) == 1
    assert (await cell.claim("w1")).grants == []


async def test_what_a_lane_misses_is_named_at_once(cell: Cell) -> None:
    await cell.enqueue(2, limits=(OWN, "carrier:new", "numbers/1"))
    claim = await cell.claim("w1")
    assert claim.skipped == ["carrier:new", "numbers/1", f"lane:{LANE}"]
    new = [Limit("carrier:new"), Limit("numbers/1")]
    await cell.queue.write_limits(new, [NewLane(LANE, (OWN, "carrier:new", "numbers/1"))])
    assert slots_of(await cell.claim("w1")) == 2
