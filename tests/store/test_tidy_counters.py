"""Counters that have drifted are put right where that is certain; pairs of keys match again."""

from __future__ import annotations

from collections import Counter

from dispatcher.store.tidying import Found, Tidying
from tests.store.cell import LANE, Cell

DAY = 86_400.0


async def tidy(cell: Cell, kind: str, rest: str, unused: float = 30 * DAY) -> None:
    await Tidying(cell.client, cell.keys).tidy([Found(kind, rest)], unused, 3600)


async def survey_all(cell: Cell, worker: str = "w1", count: int = 1000) -> list[Found]:
    """What is left of a round."""
    tidying = Tidying(cell.client, cell.keys)
    found: list[Found] = []
    survey = await tidying.survey(worker, 60, count)
    while True:
        assert survey.busy is None
        found += survey.found
        await tidying.tidy([key for key in survey.found if key.kind == "batch"], DAY, 3600)
        last = survey.last
        survey = await tidying.survey(worker, 60, count, survey.done)
        if last:
            return found


async def test_counters_of_an_empty_lane(cell: Cell) -> None:
    await cell.enqueue(5)
    await cell.finish("w1", await cell.claim_entries("w1"))
    await cell.client.hset(
        cell.keys.name("lane", LANE), mapping={"depth:normal": 7, "back:bulk": 3, "depth:bulk": 9}
    )
    await tidy(cell, "lane", LANE)
    assert Counter((await cell.check()).values()) == {"sent": 5}


async def test_a_count_too_high_of_a_short_queue(cell: Cell) -> None:
    await cell.enqueue(30, size=10)
    await cell.claim("w1", 10)
    await cell.client.hset(cell.keys.name("lane", LANE), "depth:normal", 500)
    await tidy(cell, "lane", LANE)
    assert Counter((await cell.check()).values()) == {"queue": 20, "held:w1": 10}


async def test_what_is_left_of_a_batch_follows_from_its_counts(cell: Cell) -> None:
    await cell.enqueue(30, size=10)
    await cell.finish("w1", await cell.claim_entries("w1", 10))
    await cell.client.hset(cell.keys.name("batch", cell.batch), "left", 3)
    await tidy(cell, "batch", cell.batch)
    await cell.check()
    assert await cell.client.ttl(cell.keys.name("batch", cell.batch)) == -1


async def test_a_batch_without_messages_left_expires(cell: Cell) -> None:
    await cell.enqueue(3)
    await cell.finish("w1", await cell.claim_entries("w1"))
    await cell.client.persist(cell.keys.name("batch", cell.batch))
    await tidy(cell, "batch", cell.batch)
    assert 0 < await cell.client.ttl(cell.keys.name("batch", cell.batch)) <= 3600


async def test_the_sum_of_all_batches_is_put_right_when_none_has_messages_left(cell: Cell) -> None:
    await cell.enqueue(3)
    queued, queued_by = cell.keys.name("queued"), cell.keys.name("queued_by")
    await cell.client.incrby(queued, 40)
    await survey_all(cell)
    await survey_all(cell)
    assert await cell.client.get(queued) == b"43"  # not certain: a batch has messages left
    await cell.finish("w1", await cell.claim_entries("w1"))
    await cell.client.hset(queued_by, "default", 40)
    await survey_all(cell)
    await survey_all(cell)
    assert await cell.client.exists(queued, queued_by) == 0


async def test_a_scheduled_entry_without_its_time_is_due(cell: Cell) -> None:
    far = 4_000_000_000_000_000
    await cell.enqueue(3, due_us=far)
    await cell.enqueue(3, due_us=far + 1)
    scheduled, items = cell.keys.name("scheduled"), cell.keys.name("items")
    first, second = await cell.client.zrange(scheduled, 0, -1)
    tidying = Tidying(cell.client, cell.keys)
    assert await tidying.match_scheduled() == (0, 0)
    await cell.client.zrem(scheduled, first)
    await cell.client.zadd(scheduled, {"nothing": far})
    await cell.client.zadd(scheduled, {"nothing-else": far})
    await tidying.match_scheduled()
    assert set(await cell.client.zrange(scheduled, 0, -1)) == {first, second}
    assert await cell.client.hlen(items) == 2
    assert sum(entry.count for entry in await cell.claim_entries("w1")) == 3


async def test_dead_letters_and_their_list_match(cell: Cell) -> None:
    dead, letters = cell.keys.name("dead"), cell.keys.name("letters")
    await cell.client.hset(letters, mapping={"a-0": b"letter", "a-1": b"letter"})
    await cell.client.zadd(dead, {"a-1": 5, "gone-0": 5, "gone-1": 5})
    await Tidying(cell.client, cell.keys).match_dead()
    assert await cell.client.zrange(dead, 0, -1) == [b"a-1", b"a-0"]
    assert await cell.client.zscore(dead, "a-1") == 5


async def test_one_worker_has_the_task(cell: Cell) -> None:
    tidying = Tidying(cell.client, cell.keys)
    assert (await tidying.survey("w1", 60, 10)).busy is None
    busy = (await tidying.survey("w2", 60, 10)).busy
    assert busy is not None
    assert 50 < busy <= 60
    await cell.client.hset(cell.keys.name("janitor"), "until", 1)
    assert (await tidying.survey("w2", 60, 10)).busy is None


async def test_who_takes_over_goes_on_where_the_other_stopped(cell: Cell) -> None:
    for number in range(40):
        await cell.enqueue(1, f"p/sms/{number}")
    tidying = Tidying(cell.client, cell.keys)
    first = await tidying.survey("w1", 60, 10)
    assert not first.last
    assert await tidying.survey("w1", 60, 10) == first  # what it named was not looked at
    second = await tidying.survey("w1", 60, 10, first.done)
    await cell.client.hset(cell.keys.name("janitor"), "until", 1)
    other = await tidying.survey("w2", 60, 10, first.done)  # where it was itself, long ago
    assert other == second != first
    found = {*first.found, *second.found, *await survey_all(cell, "w2", 10)}
    lanes = {key.rest for key in found if key.kind == "lane"}
    assert lanes == {f"p/sms/{number}" for number in range(40)}
    assert {key.kind for key in found} == {"lane", "queue", "limit", "batch"}
