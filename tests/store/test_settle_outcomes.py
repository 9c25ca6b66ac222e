"""Settle: what is written, what is removed, and who may do it."""

from __future__ import annotations

from collections import Counter

import pytest

from dispatcher.messages import Status
from dispatcher.store.queue import Move, Settlement, WorkerLost
from tests.store.cell import LANE, Cell, outcome, put_back, rows_of, settlement


async def test_an_emptied_queue_disappears(cell: Cell) -> None:
    await cell.enqueue(3)
    await cell.enqueue(3, class_="bulk", tenant="shop")
    assert await cell.queues() == [f"{LANE}:bulk:shop", f"{LANE}:normal:default"]
    normal, bulk = await cell.claim_entries("w1")
    assert await cell.finish("w1", [normal]) == [True]
    assert await cell.queues() == [f"{LANE}:bulk:shop"]
    await cell.finish("w1", [bulk])
    assert await cell.queues() == []
    assert await cell.held("w1") == {"#seq": "2"}


async def test_the_same_number_again_changes_nothing(cell: Cell) -> None:
    await cell.enqueue(4, size=2)
    first, second = await cell.claim_entries("w1")
    assert await cell.settle("w1", settlement(first), number=1) == [True]
    assert await cell.settle("w1", settlement(second), number=1) == [True]
    assert list((await cell.check()).values()) == ["sent", "sent", "held:w1", "held:w1"]
    await cell.settle("w1", settlement(second), number=2)
    assert list((await cell.check()).values()) == ["sent"] * 4


async def test_nothing_is_written_where_the_settle_before_is_forgotten(cell: Cell) -> None:
    await cell.enqueue(4)
    (entry,) = await cell.claim_entries("w1")
    rows = rows_of(entry)
    await cell.settle("w1", settlement(entry, Status.SENT, rows[:1], done=False))
    forgotten = settlement(entry, Status.SENT, rows[1:2], done=False)  # by a new master
    with pytest.raises(WorkerLost, match="has forgotten what worker w1 had written"):
        await cell.settle("w1", settlement(entry, Status.SENT, rows[2:]), number=3)
    assert list((await cell.check()).values()) == ["sent", *["held:w1"] * 3]
    assert await cell.settle("w1", forgotten, number=2) == [True]


async def test_an_open_entry_keeps_what_is_not_known_yet(cell: Cell) -> None:
    await cell.enqueue(4)
    (entry,) = await cell.claim_entries("w1")
    rows = rows_of(entry)
    await cell.settle("w1", settlement(entry, Status.SENT, rows[:3], done=False))
    assert list((await cell.check()).values()) == ["sent"] * 3 + ["held:w1"]
    await cell.settle("w1", settlement(entry, Status.DEAD, rows[3:]))
    assert list((await cell.check()).values()) == ["sent"] * 3 + ["dead"]
    assert (await cell.lane())["sent"] == "3"
    assert (await cell.lane())["dead"] == "1"


async def test_each_entry_has_its_own_verdict(cell: Cell) -> None:
    await cell.enqueue(9, size=3)
    mine, taken, also_mine = await cell.claim_entries("w1")
    await cell.client.xclaim(
        cell.keys.name("queue", taken.queue), "workers", "w2", 0, [taken.id.encode()]
    )
    verdicts = await cell.settle("w1", settlement(mine), settlement(taken), settlement(also_mine))
    places = await cell.places()
    assert Counter(place for found in places.values() for place in found) == {
        "sent": 6,
        "held:w2": 3,
    }
    assert f"{taken.queue}|{taken.id}" not in await cell.held("w1")
    if verdicts != [True] * 3:  # a repeated call knows no verdicts any more
        assert verdicts == [True, False, True]


async def test_what_is_no_longer_owned_is_not_written(cell: Cell) -> None:
    await cell.enqueue(3)
    entries = await cell.claim_entries("w1")
    beats = (await cell.queue.heartbeat("w2")).beats
    assert await cell.queue.reclaim_dead("w1", beats["w1"], 0.0) in (3, 0)
    with pytest.raises(WorkerLost):
        await cell.finish("w1", entries)
    assert list((await cell.check()).values()) == ["queue"] * 3


async def test_letters_of_dead_and_unknown_messages(cell: Cell) -> None:
    await cell.enqueue(3)
    (entry,) = await cell.claim_entries("w1")
    one, two, three = rows_of(entry)
    outcomes = [outcome(one, Status.DEAD), outcome(two, Status.UNKNOWN), outcome(three)]
    counters = {"dead:21211": 1}
    await cell.settle(
        "w1", Settlement(entry.queue, entry.id, entry.batch, True, outcomes, [], counters)
    )
    names = [f"{cell.batch}-{index}".encode() for index in (0, 1)]
    assert sorted(await cell.client.zrange(cell.keys.name("dead"), 0, -1)) == names
    assert sorted(await cell.client.hkeys(cell.keys.name("letters"))) == names
    view = await cell.store.inspector.batch(cell.batch)
    assert view is not None
    assert view.codes == {"dead:21211": 1}
    assert (view.counts["dead"], view.counts["unknown"], view.counts["sent"]) == (1, 1, 1)


async def test_a_retry_waits_and_comes_back(cell: Cell) -> None:
    await cell.enqueue(3)
    (entry,) = await cell.claim_entries("w1")
    await cell.settle("w1", put_back(entry, wait_us=5_000_000))
    assert list((await cell.check()).values()) == ["scheduled"] * 3
    assert (await cell.lane())["retried"] == "3"
    assert (await cell.claim("w2")).grants == []
    await cell.pass_time(5)
    (again,) = await cell.claim_entries("w2")
    assert again.queue == f"{LANE}:normal:~"
    assert [row.hop for row in rows_of(again)] == [1, 1, 1]
    await cell.finish("w2", [again])
    assert list((await cell.check()).values()) == ["sent"] * 3


async def test_an_entry_put_aside_whole_keeps_what_may_have_been_sent(cell: Cell) -> None:
    await cell.enqueue(5)
    await cell.claim("w1")
    beats = (await cell.queue.heartbeat("w2")).beats
    await cell.queue.reclaim_dead("w1", beats["w1"], 0.0)
    for _ in range(2):
        (entry,) = await cell.claim_entries("w2")
        assert (entry.ambiguous, entry.count) == (5, 5)
        move = Move(5_000_000, LANE, "normal", 5, 1, 0, entry.body, entry.ambiguous)
        await cell.settle(
            "w2", Settlement(entry.queue, entry.id, entry.batch, True, [], [move], {})
        )
        assert list((await cell.check()).values()) == ["scheduled"] * 5
        await cell.pass_time(5)


async def test_a_late_outcome_never_moves_a_message_back(cell: Cell) -> None:
    await cell.enqueue(1)
    (entry,) = await cell.claim_entries("w1")
    (row,) = rows_of(entry)
    words = [
        (Status.UNKNOWN, 0), (Status.SENT, 0), (Status.UNKNOWN, 0), (Status.QUEUED, 0),
        (Status.DELIVERED, 0), (Status.SENT, 0), (Status.UNDELIVERED, 0),
    ]  # fmt: skip
    seen = []
    for status, hop in words:
        known = [outcome(row, status, hop)]
        await cell.settle("w1", Settlement(entry.queue, entry.id, cell.batch, False, known, [], {}))
        records = await cell.store.inspector.records(cell.batch, [0])
        seen.append(records[0][0].word)
    assert seen == ["unknown", "sent", "sent", "sent", "delivered", "delivered", "delivered"]
    counts = await cell.counts()
    assert [counts[word] for word in ("unknown", "sent", "delivered")] == [0, 0, 1]
    assert counts["left"] == 0


async def test_a_newer_generation_wins_whatever_its_status(cell: Cell) -> None:
    await cell.enqueue(1)
    (entry,) = await cell.claim_entries("w1")
    (row,) = rows_of(entry)
    for status, hop in ((Status.DEAD, 0), (Status.QUEUED, 1), (Status.SENT, 0), (Status.SENT, 1)):
        known = [outcome(row, status, hop)]
        await cell.settle("w1", Settlement(entry.queue, entry.id, cell.batch, False, known, [], {}))
    records = await cell.store.inspector.records(cell.batch, [0])
    assert (records[0][0], records[0][1]) == (Status.SENT, 1)
    counts = await cell.counts()
    assert (counts["sent"], counts["dead"], counts["left"]) == (1, 0, 0)
    assert await cell.client.get(cell.keys.name("queued")) == b"0"


async def test_statuses_are_kept_for_their_time(cell: Cell) -> None:
    await cell.enqueue(2500)
    await cell.finish("w1", await cell.claim_entries("w1"))
    for block in range(3):
        assert 0 < await cell.client.ttl(cell.keys.status(cell.batch, block)) <= 3600


async def test_the_counts_of_a_batch_always_add_up(cell: Cell) -> None:
    await cell.enqueue(60, size=10)
    statuses = [Status.SENT, Status.DEAD, Status.EXPIRED, Status.SUPPRESSED, Status.UNKNOWN]
    entries = await cell.claim_entries("w1")
    await cell.settle("w1", put_back(entries.pop(), wait_us=5_000_000))
    while True:
        view = await cell.store.inspector.batch(cell.batch)
        assert view is not None
        assert sum(view.counts.values()) == view.total == 60
        assert view.counts["scheduled"] == 10
        if not entries:
            break
        await cell.settle("w1", settlement(entries.pop(), statuses.pop()))
    assert view.counts["queued"] == 0
