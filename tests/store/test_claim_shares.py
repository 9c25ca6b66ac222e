"""Who gets the slots of a limit: tenants, classes, lanes, providers."""

from __future__ import annotations

from collections import Counter

import pytest

from dispatcher.store.claims import Claim, Wanted
from tests.store.cell import LANE, OWN, Cell, entries_of, slots_of


class Hands:
    """What one worker holds without slots, kept as a pump keeps it."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, int, int]] = {}
        self.sent: Counter[str] = Counter()

    def take(self, claim: Claim) -> None:
        for grant in claim.grants:
            for entry in grant.entries:
                self._keep(entry.field, grant.lane, grant.cost, entry.count - entry.slots)
                self.sent[entry.queue] += entry.slots
            for field, count in grant.booked:
                lane, cost, rest = self.held[field]
                self._keep(field, lane, cost, rest - count)
                self.sent[field.partition("|")[0]] += count

    def _keep(self, field: str, lane: str, cost: int, rest: int) -> None:
        self.held.pop(field, None)
        if rest:
            self.held[field] = (lane, cost, rest)

    def wants(self) -> list[Wanted]:
        return [
            Wanted(lane, cost, 0, [(field, rest)])
            for field, (lane, cost, rest) in self.held.items()
        ]


async def turns(cell: Cell, hands: Hands, seconds: float, *providers: str) -> float:
    """Claim whenever something may be due; how much time has passed, by the store's clock too."""
    moved, started = 0.0, (await cell.queue.heartbeat("w1")).now_us
    while moved < seconds:
        waits = []
        for provider in providers or ("p",):
            wanted = [item for item in hands.wants() if item.lane.startswith(f"{provider}/")]
            claim = await cell.claim("w1", held=wanted, provider=provider)
            hands.take(claim)
            waits.append(claim.next_us / 1e6)
        wait = max(min(waits), 0.01)
        await cell.pass_time(wait)
        moved += wait
    return moved + ((await cell.queue.heartbeat("w1")).now_us - started) / 1e6


def per_tenant(hands: Hands) -> dict[str, int]:
    found: Counter[str] = Counter()
    for queue, count in hands.sent.items():
        found[queue.rpartition(":")[2]] += count
    return dict(found)


@pytest.mark.parametrize("size", [1, 500])
async def test_tenants_share_a_lane_whatever_the_size_of_their_entries(
    cell: Cell, size: int
) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(3000, tenant="large", size=500)
    for tenant in ("a", "b", "c"):
        await cell.enqueue(500, tenant=tenant, size=size)
    hands = Hands()
    await turns(cell, hands, 10)
    shares = per_tenant(hands)
    assert sum(shares.values()) >= 950
    assert max(shares.values()) - min(shares.values()) <= 5


async def test_weights_are_shares(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(2000, tenant="three", weight=3.0, size=10)
    await cell.enqueue(2000, tenant="one", weight=1.0, size=10)
    hands = Hands()
    await turns(cell, hands, 10)
    shares = per_tenant(hands)
    assert shares["three"] / shares["one"] == pytest.approx(3, rel=0.03)


async def test_a_tenant_that_comes_in_drops_gets_its_share_and_no_more(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(3000, tenant="steady", size=500)
    hands = Hands()
    for _ in range(100):
        await cell.enqueue(30, tenant="drops", size=30)
        await turns(cell, hands, 0.1)
    shares = per_tenant(hands)
    assert shares["drops"] == pytest.approx(shares["steady"], rel=0.05)


async def test_urgent_messages_come_before_those_held(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(500, class_="bulk")
    first = await cell.claim("w1")
    (entry,) = entries_of(first)
    await cell.enqueue(3, class_="urgent")
    held = [Wanted(LANE, 1, 0, [(entry.field, 500 - entry.slots)])]
    claim = await cell.claim("w1", held=held)
    assert [one.queue for one in entries_of(claim)] == [f"{LANE}:urgent:default"]
    assert slots_of(claim) >= 3
    assert sum(count for grant in claim.grants for _, count in grant.booked) <= 8


async def test_urgent_messages_do_not_book_a_lane_without_end(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(500, class_="urgent", size=1)
    given = [slots_of(await cell.claim("w1")) for _ in range(20)]
    assert given[-1] == 0
    assert sum(given) <= 100 * 0.75


@pytest.mark.parametrize("rate", [100, 500])
async def test_slow_lanes_get_what_is_theirs_beside_fast_ones(cell: Cell, rate: int) -> None:
    await cell.limit(OWN, rate=rate)
    for carrier in "abcde":
        await cell.limit(f"carrier:slow{carrier}", rate=5)
        await cell.enqueue(
            500, f"p/sms/slow{carrier}", limits=(OWN, f"carrier:slow{carrier}"), size=1
        )
        await cell.enqueue(15 * rate, f"p/sms/fast{carrier}", size=10)
    hands = Hands()
    moved = await turns(cell, hands, 10)
    lanes = {queue.split(":")[0].split("/")[2]: count for queue, count in hands.sent.items()}
    assert sum(lanes.values()) >= 0.98 * rate * moved
    slow = [lanes[f"slow{carrier}"] for carrier in "abcde"]
    fast = [lanes[f"fast{carrier}"] for carrier in "abcde"]
    assert min(slow) >= 0.98 * (5 * moved - 1) - 1
    assert max(fast) <= 1.15 * min(fast)


async def test_a_worker_takes_nothing_new_before_it_has_slots_for_what_it_holds(
    cell: Cell,
) -> None:
    await cell.limit(OWN, rate=200)
    await cell.enqueue(4000, "p/sms/a", size=100)
    hands = Hands()
    for _ in range(20):
        for carrier in "bcdefgh":  # lanes that leave most of their share to the first
            await cell.enqueue(1, f"p/sms/{carrier}")
        await turns(cell, hands, 0.1)
        assert len(hands.held) <= 1


async def test_providers_share_a_carrier(cell: Cell) -> None:
    await cell.limit("carrier:a", rate=100)
    for provider in ("p", "q", "r"):
        own = f"provider:{provider}"
        await cell.limit(own)
        await cell.enqueue(2000, f"{provider}/sms/a", limits=(own, "carrier:a"), size=10)
    hands = Hands()
    moved = await turns(cell, hands, 10, "p", "q", "r")
    shares = {queue[0]: count for queue, count in hands.sent.items()}
    assert sum(shares.values()) >= 0.98 * 100 * moved
    assert max(shares.values()) <= 1.2 * min(shares.values())


async def test_many_senders_share_a_carrier(cell: Cell) -> None:
    await cell.limit("carrier:a", rate=75)
    lanes = [f"p/sms/a/sender={number}" for number in range(150)]
    for number, lane in enumerate(lanes):
        name = f"numbers/{number}"
        await cell.limit(name, rate=1)
        await cell.enqueue(30, lane, limits=(OWN, "carrier:a", name), size=1)
    hands = Hands()
    moved = await turns(cell, hands, 20)
    counts = [hands.sent[f"{lane}:normal:default"] for lane in lanes]
    assert sum(counts) >= 0.98 * 75 * moved
    assert max(counts) <= moved + 1
    assert sum(counts) ** 2 / len(counts) / sum(count**2 for count in counts) >= 0.98


async def test_those_refused_by_a_limit_come_in_the_order_in_which_they_asked(cell: Cell) -> None:
    await cell.limit("carrier:a", rate=100)
    for provider in ("p", "q", "r"):
        own = f"provider:{provider}"
        await cell.limit(own)
        await cell.enqueue(2000, f"{provider}/sms/a", limits=(own, "carrier:a"), size=10)

    async def slots(*providers: str) -> list[int]:
        return [slots_of(await cell.claim("w1", provider=provider)) for provider in providers]

    first, *refused = await slots("p", "q", "r")
    assert first > 0 and refused == [0, 0]
    await cell.pass_time((first - 4) / 100)
    assert await slots("p") == [0]
    assert (await slots("q"))[0] > 0
    await cell.pass_time((first - 5) / 100)
    assert await slots("q") == [0]
    assert (await slots("r"))[0] > 0
