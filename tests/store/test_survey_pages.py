"""A survey of the store says of each lane and limit what a look at that one says."""

from __future__ import annotations

import time

import pytest

from dispatcher.messages import Status
from dispatcher.store.lease import Lease
from dispatcher.store.survey import PAGE, Survey
from tests.store.cell import LANE, OWN, Cell, rows_of, settlement


@pytest.fixture
def survey(cell: Cell) -> Survey:
    return Survey(cell.client, cell.keys)


async def test_every_lane_comes_with_its_state(cell: Cell, survey: Survey) -> None:
    names = [f"p/sms/c{at}" for at in range(2 * PAGE)]
    for name in names:
        await cell.enqueue(2, name)
    (entry,) = await cell.claim_entries("w1", 2)
    await cell.settle("w1", settlement(entry, Status.DEAD))
    pages = [page async for page in survey.lane_pages("p")]
    assert len(pages) > 1
    found = {lane.lane: lane for page in pages for lane in page}
    assert found.keys() == set(names)
    alone = await cell.store.inspector.lanes(sorted(names))
    assert [found[name]._replace(oldest_us={}) for name in sorted(names)] == alone
    now_us = time.time() * 1e6
    ages = [now_us - lane.oldest_us["normal"] for lane in found.values() if lane.waiting]
    assert len(ages) == len(names) - 1
    assert all(-1e6 < age < 60e6 for age in ages)


async def test_every_limit_comes_with_its_state(cell: Cell, survey: Survey) -> None:
    names = [f"numbers/{at}" for at in range(2 * PAGE)]
    for at, name in enumerate(names, 1):
        await cell.limit(name, at)
    pages = [page async for page in survey.limit_pages()]
    assert len(pages) > 1
    found = {name: limit for page in pages for name, limit in page.items()}
    alone = await cell.store.inspector.limits([OWN, *names])
    same = {name: view._replace(now_us=0) for name, view in found.items()}
    assert same == {name: view._replace(now_us=0) for name, view in alone.items()}


async def test_codes_are_counted_by_lane_and_not_by_batch(cell: Cell, survey: Survey) -> None:
    await cell.enqueue(5)
    (entry,) = await cell.claim_entries("w1")
    rows = rows_of(entry)
    failed = settlement(entry, Status.DEAD, rows[:2], done=False)
    counters = {"error:30003": 2, "error:left": 1, "dead:30003": 2}
    await cell.settle("w1", failed._replace(counters=counters))
    await cell.settle("w1", settlement(entry, Status.SENT, rows[2:]))
    assert await survey.errors([LANE, "p/sms/b"]) == {LANE: {"30003": 2, "left": 1}, "p/sms/b": {}}
    assert await cell.client.ttl(cell.keys.name("errors", LANE)) > 0
    assert not [name for name in await cell.counts() if name.startswith("error")]
    await cell.check()


async def test_the_store_as_a_whole(cell: Cell, survey: Survey) -> None:
    await cell.enqueue(5)
    await cell.enqueue(4, "p/sms/b")
    first, second = await cell.claim_entries("w1")
    await cell.settle("w1", settlement(first))
    await cell.settle("w1", settlement(second, Status.DEAD))
    await cell.enqueue(3)
    await cell.settle("w1", breakers=[("p", 0, 1, 1)])
    view = await survey.store(["p", "q"])
    sent, dead = first.count, second.count
    assert (view.sent, view.letters, view.unfinished) == (sent, dead, 3)
    assert view.workers.keys() == {"w1", "w2"}
    assert all(abs(view.now_us - beat) < 60e6 for beat in view.workers.values())
    assert {name: breaker.state for name, breaker in view.breakers.items()} == {
        "p": "open",
        "q": "closed",
    }
    assert view.memory > 0


async def test_a_role_is_held_by_one(cell: Cell) -> None:
    one, two = (Lease(cell.client, cell.keys, "role") for _ in range(2))
    assert await one.hold(60) and await one.hold(60)
    assert not await two.hold(60)
    await two.give_up()
    assert await one.hold(60)
    await one.give_up()
    assert await two.hold(60) and not await one.hold(60)
    assert await Lease(cell.client, cell.keys, "other").hold(60)
    assert 0 < await cell.client.pttl(cell.keys.name("lease", "role")) <= 60_000
