"""Unknown outcomes are resolved: forward only, once, and the counts stay right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.messages import Record, Status, encode_record
from dispatcher.settings import StoreConfig
from dispatcher.store.opening import open_store
from dispatcher.store.queue import Letter, Outcome, Settlement
from dispatcher.store.resolving import OUTCOMES, RESOLVED, Resolver
from tests.store.cell import LANE, OWN, Cell, rows_of

RANK = {
    Status.UNKNOWN: 1, Status.SENT: 2, Status.DEAD: 2, Status.UNDELIVERED: 3, Status.DELIVERED: 4,
    Status.READ: 5,
}  # fmt: skip


def resolver(cell: Cell) -> Resolver:
    return Resolver(cell.client, cell.keys)


async def settled(cell: Cell, statuses: Sequence[Status]) -> None:
    """A batch whose messages have these statuses, each with a record of its own."""
    await cell.enqueue(len(statuses))
    (entry,) = await cell.claim_entries("w1")
    outcomes, counters = [], {}
    for row, status in zip(rows_of(entry), statuses, strict=True):
        code = "timeout" if status in (Status.UNKNOWN, Status.DEAD) else None
        value = encode_record(status, 0, Record(1, LANE, row.to, code=code))
        letter = Letter(LANE, "normal", status.word, "timeout", "", None, (), 0, b"")
        packed = msgspec.msgpack.encode(letter) if code else None
        outcomes.append(Outcome(row.index, 0, status, value, packed))
        if status is Status.DEAD:
            counters["dead:timeout"] = counters.get("dead:timeout", 0) + 1
    await cell.settle(
        "w1", Settlement(entry.queue, entry.id, entry.batch, True, outcomes, [], counters)
    )


async def letters(cell: Cell) -> dict[str, str]:
    """Message → the status in its letter."""
    found = await cell.client.hgetall(cell.keys.name("letters"))
    listed = await cell.client.zrange(cell.keys.name("dead"), 0, -1)
    assert set(found) == set(listed)
    return {
        message.decode(): msgspec.msgpack.decode(letter, type=Letter).status
        for message, letter in found.items()
    }


async def test_a_receipt_or_an_operator_tells(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN] * 3)
    resolve = resolver(cell).resolve
    first, second, third = (f"{cell.batch}-{index}" for index in range(3))
    found = await resolve(first, Status.SENT, status_seconds=60, provider_id="SM1", detail="by Ann")
    assert found is Status.SENT
    assert await resolve(second, Status.DEAD, status_seconds=60) is Status.DEAD
    assert await letters(cell) == {second: "dead", third: "unknown"}
    known = await cell.store.inspector.records(cell.batch, [0])
    _, _, record = known[0]
    assert (record.provider_id, record.detail, record.code) == ("SM1", "by Ann", None)
    assert [attempt.code for attempt in record.history] == [RESOLVED]
    assert list((await cell.check()).values()) == ["sent", "dead", "unknown"]
    assert (await cell.counts())["dead:timeout"] == 1
    lane = await cell.lane()
    assert (lane["sent"], lane["dead"]) == ("1", "1")


async def test_what_waits_or_is_not_known_is_left_alone(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN])
    resolve = resolver(cell).resolve
    assert await resolve(f"{cell.batch}-7", Status.SENT, status_seconds=60) is None
    value = encode_record(Status.SCHEDULED, 1, Record(1, LANE, "+4915100000000"))
    await cell.client.hset(cell.keys.status(cell.batch, 0), "0", value)
    assert await resolve(f"{cell.batch}-0", Status.SENT, status_seconds=60) is Status.SCHEDULED
    with pytest.raises(ValueError, match="queued is no outcome"):
        await resolve(f"{cell.batch}-0", Status.QUEUED, status_seconds=60)


async def test_two_at_once(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN] * 20)
    resolve = resolver(cell).resolve
    await asyncio.gather(
        *(
            resolve(f"{cell.batch}-{index}", status, status_seconds=60)
            for index in range(20)
            for status in (Status.DELIVERED, Status.SENT, Status.READ)
        )
    )
    assert set((await cell.check()).values()) == {"read"}
    assert await letters(cell) == {}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.sampled_from([Status.UNKNOWN, Status.DEAD, Status.SENT]), min_size=1, max_size=8),
    st.data(),
)
def test_any_order_of_events(
    store_config: StoreConfig, before: list[Status], data: st.DataObject
) -> None:
    """Against a model: a status moves only to a higher rank, and every count follows."""
    events = data.draw(
        st.lists(
            st.tuples(
                st.integers(0, len(before) - 1),
                st.sampled_from(sorted(OUTCOMES)),
                st.booleans(),
            ),
            max_size=12,
        )
    )
    asyncio.run(_drive(store_config, before, events))


async def _drive(
    config: StoreConfig, before: list[Status], events: list[tuple[int, Status, bool]]
) -> None:
    model = list(before)
    async with open_store(config) as store:
        cell = Cell(store)
        await cell.limit(OWN)
        await cell.worker("w1")
        await store.client.delete(cell.keys.name("dead"), cell.keys.name("letters"))
        await settled(cell, before)
        for index, status, twice in events:
            if RANK[status] > RANK[model[index]]:
                model[index] = status
            for _ in range(2 if twice else 1):
                found = await resolver(cell).resolve(
                    f"{cell.batch}-{index}", status, status_seconds=60
                )
                assert found is model[index]
        view = await store.inspector.batch(cell.batch)
        assert view is not None
        assert {word: count for word, count in view.counts.items() if count} == {
            status.word: model.count(status) for status in model
        }
        assert {code: count for code, count in view.codes.items() if count} == {
            f"{status.word}:timeout": model.count(status) for status in model if status == "d"
        }
        assert await letters(cell) == {
            f"{cell.batch}-{index}": status.word
            for index, status in enumerate(model)
            if status in (Status.DEAD, Status.UNKNOWN)
        }
        await cell.queue.leave("w1")


async def test_a_status_does_not_outlive_its_batch(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN] * 2)
    batch = cell.keys.name("batch", cell.batch)
    await cell.client.expire(batch, 60)
    message = f"{cell.batch}-0"
    await resolver(cell).resolve(message, Status.DELIVERED, status_seconds=3600)
    kept = await cell.client.ttl(cell.keys.status(cell.batch, 0))
    assert 60 < kept <= await cell.client.ttl(batch)


async def test_the_totals_are_those_of_the_lanes(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN] * 3)
    for index, status in enumerate((Status.SENT, Status.DELIVERED, Status.DEAD)):
        message = f"{cell.batch}-{index}"
        await resolver(cell).resolve(message, status, status_seconds=3600)
    totals = await cell.client.hgetall(cell.keys.name("totals"))
    lane = await cell.lane()
    assert totals == {b"sent": b"2", b"dead": b"1"}
    assert (lane["sent"], lane["dead"]) == ("2", "1")
