"""Messages with an outcome, and letters among the dead ones, as a settle leaves them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dispatcher.messages import Attempt, Record, Status, encode_record
from dispatcher.store.opening import Store
from dispatcher.store.queue import Letter, Outcome, Settlement
from tests.store.cell import LANE, Cell, body_of, entries_of, rows_of


async def bury(
    store: Store,
    message: str,
    body: bytes,
    status: str = "dead",
    code: str = "30008",
    history: tuple[Attempt, ...] = (),
    *,
    lane: str,
) -> None:
    """The later it is buried, the newer it is. Its batch is not known (any more)."""
    letter = Letter(lane, "bulk", status, code, "gone", None, history, 0, body)
    now_us = await store.inspector.now_us()
    await store.client.zadd(store.keys.name("dead"), {message: now_us})
    packed = msgspec.msgpack.encode(letter)
    await store.client.hset(store.keys.name("letters"), message, packed)


async def settled(cell: Cell, statuses: Sequence[Status], lane: str = LANE) -> None:
    """Messages of the batch that have these statuses, each with a record of its own."""
    provider = lane.partition("/")[0]
    await cell.enqueue(len(statuses), lane, limits=(f"provider:{provider}",))
    (entry,) = entries_of(await cell.claim("w1", provider=provider))
    outcomes, counters = [], {}
    for row, status in zip(rows_of(entry), statuses, strict=True):
        code = "timeout" if status in (Status.UNKNOWN, Status.DEAD) else None
        value = encode_record(status, 0, Record(1, lane, row.to, code=code))
        letter = Letter(
            lane, "normal", status.word, "timeout", "", None, (), 0, body_of(cell.batch, [row])
        )
        packed = msgspec.msgpack.encode(letter) if code else None
        outcomes.append(Outcome(row.index, 0, status, value, packed))
        if status is Status.DEAD:
            counters["dead:timeout"] = counters.get("dead:timeout", 0) + 1
    await cell.settle(
        "w1", Settlement(entry.queue, entry.id, entry.batch, True, outcomes, [], counters)
    )
