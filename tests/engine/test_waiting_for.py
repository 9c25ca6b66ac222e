"""`waiting_for` of a message, from what the store holds."""

from __future__ import annotations

import time

import pytest

from dispatcher.engine.views import message
from dispatcher.messages import Record, Status, encode_record, message_id, new_ulid
from dispatcher.store.opening import Store
from dispatcher.store.operations import Action, Operations

LANE = "p/sms/a"
HOUR_MS = 3_600_000


@pytest.fixture
async def batch(store: Store) -> str:
    """A batch of two; the second was never settled."""
    batch = new_ulid(1)
    fields = {"total": 2, "created": 1, "tenant": "default", "channel": "sms"}
    await store.client.hset(store.keys.name("batch", batch), mapping=fields)
    return batch


async def settle(store: Store, batch: str, status: Status, due_ms: int = 0) -> None:
    record = Record(1, LANE, "+49151", due_ms=due_ms, attempts=1)
    field = {"0": encode_record(status, 1, record)}
    await store.client.hset(store.keys.status(batch, 0), mapping=field)


async def waiting_for(store: Store, batch: str, index: int = 0) -> str | None:
    found = await message(store.inspector, message_id(batch, index))
    assert found is not None
    waiting: str | None = found["waiting_for"]
    return waiting


async def test_what_its_lane_waits_for(store: Store, batch: str) -> None:
    await settle(store, batch, Status.SCHEDULED, due_ms=1)
    assert await waiting_for(store, batch) is None
    now, lane = await store.inspector.now_us(), store.keys.name("lane", LANE)
    await store.client.hset(lane, "limits", "provider:p carrier:a")
    limit = {"interval": "1000000.000000", "burst": 1, "tat": now + 60_000_000}
    await store.client.hset(store.keys.name("limit", "carrier:a"), mapping=limit)
    assert await waiting_for(store, batch) == "limit carrier:a"
    breaker = {"state": "open", "until": now + 60_000_000}
    await store.client.hset(store.keys.name("breaker", "p"), mapping=breaker)
    assert await waiting_for(store, batch) == "provider p is down (breaker open)"
    suspend = Action("1", "ann", "suspend", LANE, reason="wrong text")
    await Operations(store.client, store.keys).suspend(LANE, 60, suspend)
    assert await waiting_for(store, batch) == "suspended: wrong text"


async def test_a_time_to_come(store: Store, batch: str) -> None:
    due = int(time.time()) * 1000 + HOUR_MS
    await settle(store, batch, Status.SCHEDULED, due)
    at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(due / 1000))
    assert await waiting_for(store, batch) == f"scheduled until {at}"


@pytest.mark.parametrize("status", [Status.SENT, Status.DEAD, Status.UNKNOWN])
async def test_a_message_that_does_not_wait(store: Store, batch: str, status: Status) -> None:
    await settle(store, batch, status)
    await store.client.hset(store.keys.name("breaker", "p"), "state", "open")
    assert await waiting_for(store, batch) is None


async def test_before_its_first_attempt_it_is_in_one_of_the_lanes_of_its_batch(
    store: Store, batch: str
) -> None:
    assert await waiting_for(store, batch, 1) is None
    operations = Operations(store.client, store.keys)
    for lane in ("p/sms/a", "p/sms/b", "p/sms/c"):
        await operations.suspend(lane, 60, Action("1", "ann", "suspend", lane, reason=lane[:-1]))
    await store.client.hset(store.keys.name("batch", batch), "lanes", "p/sms/a p/sms/b *")
    assert await waiting_for(store, batch, 1) == "suspended: p/sms/"
    other = Action("2", "ann", "suspend", "p/sms/b", reason="other")
    await operations.suspend("p/sms/b", 60, other)
    assert await waiting_for(store, batch, 1) == "suspended: p/sms/ or suspended: other"
