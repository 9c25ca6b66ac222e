"""Unknown outcomes are resolved: forward only, once, and the counts stay right."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.messages import Record, Status, encode_record
from dispatcher.settings import StoreConfig
from dispatcher.store.letters import CellLetters
from dispatcher.store.opening import open_store
from dispatcher.store.operations import Action
from dispatcher.store.queue import Letter
from dispatcher.store.resolving import OUTCOMES, RECEIPT, RESOLVED, Resolved, Resolver, Said
from dispatcher.store.scripts import Argument, Script
from tests.store.cell import LANE, OWN, Cell, action
from tests.store.letter import settled

RANK = {
    Status.UNKNOWN: 1, Status.SENT: 2, Status.DEAD: 2, Status.UNDELIVERED: 3, Status.DELIVERED: 4,
    Status.READ: 5,
}  # fmt: skip


async def resolve(
    cell: Cell, message: str, status: Status, by: Action | None = None, provider_id: str = ""
) -> Status | None:
    """The status that a message has then."""
    said = Said(message, status, provider_id or None)
    (found,) = await Resolver(cell.client, cell.keys).resolve([said], 3600, by)
    return found.status


async def letters(cell: Cell) -> dict[str, str]:
    """Message → the status in its letter."""
    found = await cell.client.hgetall(cell.keys.name("letters"))
    listed = await cell.client.zrange(cell.keys.name("dead"), 0, -1)
    assert set(found) == set(listed)
    return {
        message.decode(): msgspec.msgpack.decode(letter, type=Letter).status
        for message, letter in found.items()
    }


async def story(cell: Cell, index: int) -> list[tuple[str, str]]:
    """What the story of a message tells: code and who."""
    _, _, record = (await cell.store.inspector.records(cell.batch, [index]))[index]
    return [(attempt.code, attempt.by) for attempt in record.history]


async def test_a_receipt_settles_what_was_unknown(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN] * 3)
    first, second, third = (f"{cell.batch}-{index}" for index in range(3))
    assert await resolve(cell, first, Status.DELIVERED, provider_id="SM1") is Status.DELIVERED
    assert await resolve(cell, second, Status.DEAD) is Status.DEAD
    assert await letters(cell) == {second: "dead", third: "unknown"}
    _, _, record = (await cell.store.inspector.records(cell.batch, [0]))[0]
    assert (record.provider_id, record.code) == ("SM1", None)
    assert await story(cell, 0) == [(RESOLVED, RECEIPT)]
    assert list((await cell.check()).values()) == ["delivered", "dead", "unknown"]
    assert (await cell.counts())["dead:timeout"] == 1
    lane = await cell.lane()
    assert (lane["sent"], lane["dead"]) == ("1", "1")
    assert await cell.store.inspector.actions() == []


async def test_a_late_receipt_moves_nothing_backwards(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN])
    message = f"{cell.batch}-0"
    assert await resolve(cell, message, Status.READ) is Status.READ
    for late in (Status.DELIVERED, Status.UNDELIVERED, Status.SENT, Status.DEAD):
        assert await resolve(cell, message, late) is Status.READ
    assert await story(cell, 0) == [(RESOLVED, RECEIPT)]


async def test_a_receipt_of_an_earlier_send_is_not_of_this_one(cell: Cell) -> None:
    await settled(cell, [Status.SENT])
    name, message = cell.keys.status(cell.batch, 0), f"{cell.batch}-0"
    again = encode_record(Status.SENT, 1, Record(1, LANE, "+49", provider_id="SM2"))
    await cell.client.hset(name, "0", again)
    assert await resolve(cell, message, Status.UNDELIVERED, provider_id="SM1") is Status.SENT
    assert await resolve(cell, message, Status.DELIVERED, provider_id="SM2") is Status.DELIVERED


async def test_an_operator_tells_of_what_is_unknown_only(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN, Status.UNKNOWN, Status.SENT, Status.DEAD])
    ann = action("dead resolve", "4 named")
    found = [
        await resolve(cell, f"{cell.batch}-{index}", Status.DELIVERED, ann) for index in range(4)
    ]
    assert found == [Status.DELIVERED, Status.DELIVERED, Status.SENT, Status.DEAD]
    assert list((await cell.check()).values()) == [status.word for status in found]
    assert await story(cell, 1) == [(RESOLVED, "ann")]
    assert await letters(cell) == {f"{cell.batch}-3": "dead"}
    (done,) = await cell.store.inspector.actions()
    assert (done.who, done.what, done.on, done.affected) == ("ann", "dead resolve", "4 named", 2)


async def test_a_receipt_has_the_last_word(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN])
    message = f"{cell.batch}-0"
    await resolve(cell, message, Status.DEAD, action("dead resolve", "1 named"))
    assert await resolve(cell, message, Status.DELIVERED) is Status.DELIVERED
    assert await story(cell, 0) == [(RESOLVED, "ann"), (RESOLVED, RECEIPT)]
    assert list((await cell.check()).values()) == ["delivered"]
    assert (await cell.counts())["dead:timeout"] == 0
    assert await letters(cell) == {}


async def test_many_in_one_call(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN] * 6)
    said = [Said(f"{cell.batch}-{index}", Status.SENT) for index in range(5)]
    said += [Said(f"{cell.batch}-0", Status.READ), Said(f"{cell.batch}-7", Status.SENT)]
    found = await Resolver(cell.client, cell.keys).resolve(said, 3600)
    assert [one.status for one in found[1:]] == [*[Status.SENT] * 4, Status.READ, None]
    assert list((await cell.check()).values()) == ["read", *["sent"] * 4, "unknown"]
    assert await letters(cell) == {f"{cell.batch}-5": "unknown"}


async def test_a_letter_that_is_dropped_meanwhile_does_not_come_back(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await settled(cell, [Status.UNKNOWN])
    message, run = f"{cell.batch}-0", Script.__call__

    async def drop_first(self: Script, key: str, *arguments: Argument) -> Any:
        if self.name == "resolve":
            await CellLetters(cell.client, cell.keys).drop([message], action("dead drop", message))
        return await run(self, key, *arguments)

    monkeypatch.setattr(Script, "__call__", drop_first)
    assert await resolve(cell, message, Status.DEAD) is Status.DEAD
    assert await letters(cell) == {}
    assert list((await cell.check()).values()) == ["dead"]


async def test_what_changed_is_told(store_cell: Cell) -> None:
    cell = store_cell
    await settled(cell, [Status.UNKNOWN] * 2)
    said = [Said(f"{cell.batch}-0", Status.SENT)]
    resolver = Resolver(cell.client, cell.keys)
    assert await resolver.resolve(said, 3600) == [Resolved(Status.SENT, changed=True)]
    assert await resolver.resolve(said, 3600) == [Resolved(Status.SENT, changed=False)]


async def test_what_waits_or_is_not_known_is_left_alone(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN])
    assert await resolve(cell, f"{cell.batch}-7", Status.SENT) is None
    value = encode_record(Status.SCHEDULED, 1, Record(1, LANE, "+4915100000000"))
    await cell.client.hset(cell.keys.status(cell.batch, 0), "0", value)
    assert await resolve(cell, f"{cell.batch}-0", Status.SENT) is Status.SCHEDULED
    with pytest.raises(ValueError, match="queued is no outcome"):
        await resolve(cell, f"{cell.batch}-0", Status.QUEUED)


async def test_of_a_forgotten_status_only_the_letter_is_left(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN] * 3)
    await cell.client.delete(cell.keys.status(cell.batch, 0))
    ann, names = action("dead resolve", "all"), [f"{cell.batch}-{index}" for index in range(3)]
    await resolve(cell, names[0], Status.DELIVERED, ann)
    await resolve(cell, names[1], Status.DEAD, ann)
    assert await letters(cell) == {names[1]: "dead", names[2]: "unknown"}
    assert await cell.store.inspector.records(cell.batch, range(3)) == {}
    counts = await cell.counts()
    assert [counts[word] for word in ("unknown", "delivered", "dead", "dead:timeout")] == [1] * 4
    await cell.client.hset(cell.keys.name("batch", cell.batch), "reopened", 1)
    await resolve(cell, names[2], Status.SENT, ann)
    assert await letters(cell) == {names[1]: "dead"}
    assert (await cell.counts()) == counts | {"reopened": 1}
    await cell.client.delete(cell.keys.name("batch", cell.batch))
    assert await resolve(cell, names[1], Status.SENT, ann) is Status.DEAD
    assert not await cell.client.exists(cell.keys.name("batch", cell.batch))


async def test_two_at_once(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN] * 20)
    await asyncio.gather(
        *(
            resolve(cell, f"{cell.batch}-{index}", status)
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
                found = await resolve(cell, f"{cell.batch}-{index}", status)
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
    await resolve(cell, message, Status.DELIVERED)
    kept = await cell.client.ttl(cell.keys.status(cell.batch, 0))
    assert 60 < kept <= await cell.client.ttl(batch)


async def test_the_totals_are_those_of_the_lanes(cell: Cell) -> None:
    await settled(cell, [Status.UNKNOWN] * 3)
    for index, status in enumerate((Status.SENT, Status.DELIVERED, Status.DEAD)):
        await resolve(cell, f"{cell.batch}-{index}", status)
    totals = await cell.client.hgetall(cell.keys.name("totals"))
    lane = await cell.lane()
    assert totals == {b"sent": b"2", b"dead": b"1"}
    assert (lane["sent"], lane["dead"]) == ("2", "1")
