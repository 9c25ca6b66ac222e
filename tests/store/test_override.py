"""A rate that an operator puts above the configuration: in force at once, until it ends or is taken
away; running the script twice changes nothing more."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.store.limit_views import LimitView
from dispatcher.store.operations import Operations
from tests.store.cell import LANE, OWN, Cell

SLOW, FAST = 3_600_000_000.0, 10_000.0
"""Intervals (us) of one an hour and a hundred a second."""


@pytest.fixture
def operations(cell: Cell) -> Operations:
    return Operations(cell.client, cell.keys)


async def view(cell: Cell, name: str = OWN) -> LimitView:
    return (await cell.store.inspector.limits([name]))[name]


async def due(cell: Cell) -> float:
    """In how many us the lane is looked at."""
    at = await cell.client.zscore(cell.keys.name("lanes", "p"), LANE)
    assert at is not None
    return float(at) - await cell.store.inspector.now_us()


async def test_set_and_reset(cell: Cell, operations: Operations) -> None:
    await cell.limit(OWN, 75)
    configured = (await view(cell)).configured_us
    assert await operations.set_limit(OWN, FAST)
    found = await view(cell)
    assert (found.interval_us, found.set_us, found.set_until_us) == (FAST, FAST, 0)
    assert found.configured_us == configured
    assert await operations.reset_limit(OWN)
    assert (await view(cell)).interval_us == configured
    assert (await view(cell)).set_us is None
    assert {"set", "set_until"}.isdisjoint(await cell.limit_state())


async def test_a_rate_for_a_while(cell: Cell, operations: Operations) -> None:
    await cell.limit(OWN, 75)
    before = await cell.store.inspector.now_us()
    assert await operations.set_limit(OWN, FAST, 60.0)
    after = await cell.store.inspector.now_us()
    found = await view(cell)
    assert before + 60_000_000 <= found.set_until_us <= after + 60_000_000
    await cell.client.hset(cell.keys.name("limit", OWN), "set_until", before)
    assert (await view(cell)).set_us is None
    assert (await view(cell)).interval_us == found.configured_us


async def test_an_unknown_limit(cell: Cell, operations: Operations) -> None:
    number = await cell.client.get(cell.keys.name("control"))
    assert not await operations.set_limit("carrier:x", FAST)
    assert not await operations.reset_limit("carrier:x")
    assert not await cell.client.exists(cell.keys.name("limit", "carrier:x"))
    assert await cell.client.get(cell.keys.name("control")) == number


async def test_it_is_announced(cell: Cell, operations: Operations) -> None:
    pubsub = cell.client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(cell.keys.name("control"))
    number = int(await cell.client.get(cell.keys.name("control")) or 0)
    await operations.set_limit(OWN, FAST)
    async with asyncio.timeout(10):
        while (message := await pubsub.get_message(timeout=1)) is None:
            pass
    assert message["data"] == OWN.encode()
    assert int(await cell.client.get(cell.keys.name("control")) or 0) > number
    await pubsub.aclose()  # type: ignore[no-untyped-call]


async def test_a_sleeping_lane_is_woken(cell: Cell, operations: Operations) -> None:
    await cell.limit("carrier:a", 1 / 3600)
    await cell.enqueue(50, limits=(OWN, "carrier:a"), size=1)
    assert sum(grant.count for grant in (await cell.claim("w1")).grants) == 1
    while await due(cell) < 1_000_000:
        assert not (await cell.claim("w1")).grants
    await cell.client.delete(cell.keys.name("bell", "p"))
    other = await cell.store.inspector.now_us() + 9_000_000
    await cell.client.hset(cell.keys.name("lane", "p/sms/b"), "limits", f"{OWN} carrier:ab")
    await cell.client.zadd(cell.keys.name("lanes", "p"), {"p/sms/b": other})
    await operations.set_limit("carrier:a", FAST)
    assert await due(cell) <= 0
    assert await cell.client.llen(cell.keys.name("bell", "p")) == 1
    assert await cell.client.zscore(cell.keys.name("lanes", "p"), "p/sms/b") == other


async def test_claims_go_by_it(cell: Cell, operations: Operations) -> None:
    await cell.limit("carrier:a", 1 / 3600)
    await operations.set_limit("carrier:a", FAST)
    await cell.enqueue(50, limits=(OWN, "carrier:a"), size=1)
    (fast,) = (await cell.claim("w1")).grants
    assert fast.spacing_us == FAST
    assert fast.count > 1
