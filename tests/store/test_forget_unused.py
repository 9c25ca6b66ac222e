"""Lanes and limits that nobody has used for long are forgotten, and come back safely."""

from __future__ import annotations

import pytest

from dispatcher.limits import CalendarQuota
from dispatcher.store.tidying import Found, Tidying
from tests.store.cell import LANE, OWN, Cell, slots_of

DAY = 86_400.0
MONTH = 30 * DAY


async def tidy(cell: Cell, kind: str, rest: str, unused: float = MONTH) -> None:
    await Tidying(cell.client, cell.keys).tidy([Found(kind, rest)], unused, 3600)


async def known(cell: Cell, name: str) -> bool:
    there = await cell.client.exists(cell.keys.name("limit", name))
    assert there == await cell.client.sismember(cell.keys.name("limits"), name)
    return bool(there)


async def age(cell: Cell, name: str, seconds: float) -> None:
    """The limit was used and written so long ago."""
    now = (await cell.queue.heartbeat("w1")).now_us
    old = int(now - seconds * 1e6)
    await cell.client.hset(cell.keys.name("limit", name), mapping={"tat": old, "born": old})


async def run_dry(cell: Cell) -> None:
    """One message goes through the lane, and it leaves the list of lanes."""
    await cell.enqueue(1)
    await cell.finish("w1", await cell.claim_entries("w1"))
    await cell.claim("w1")
    assert await cell.client.zscore(cell.keys.name("lanes", "p"), LANE) is None


async def test_an_unused_limit_is_forgotten(cell: Cell) -> None:
    await cell.limit("number/1", rate=5)
    await age(cell, "number/1", MONTH - DAY)
    await tidy(cell, "limit", "number/1")
    assert await known(cell, "number/1")
    await age(cell, "number/1", MONTH + DAY)
    await tidy(cell, "limit", "number/1")
    assert not await known(cell, "number/1")


async def test_a_forgotten_limit_comes_back_at_its_rate(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(50)
    await age(cell, OWN, MONTH + DAY)
    await tidy(cell, "limit", OWN)
    claim = await cell.claim("w1")
    assert claim.skipped == [OWN, f"lane:{LANE}"]
    await cell.limit(OWN, rate=100)
    await cell.pass_time(2)
    assert slots_of(await cell.claim("w1")) <= 16


@pytest.mark.parametrize("ends", [0, 4_000_000_000_000_000])
async def test_what_an_operator_has_set_is_not_forgotten(cell: Cell, ends: int) -> None:
    await cell.limit("number/1", rate=5)
    await age(cell, "number/1", 2 * MONTH)
    values = {"set": "1000.0", "set_until": ends}
    await cell.client.hset(cell.keys.name("limit", "number/1"), mapping=values)
    await tidy(cell, "limit", "number/1")
    assert await known(cell, "number/1")


async def test_a_quota_in_use_is_not_forgotten(cell: Cell) -> None:
    far = 4_000_000_000_000_000
    await cell.limit("number/1", quotas=(CalendarQuota(100, "month", (far, far + 1)),))
    await age(cell, "number/1", 2 * MONTH)
    await cell.client.hset(cell.keys.name("limit", "number/1"), "used:month", 1)
    await tidy(cell, "limit", "number/1")
    assert await known(cell, "number/1")
    await cell.client.hset(cell.keys.name("limit", "number/1"), "used:month", 0)
    await tidy(cell, "limit", "number/1")
    assert not await known(cell, "number/1")


async def test_a_limit_that_lost_its_state_is_not_taken_for_a_new_one(cell: Cell) -> None:
    await cell.limit("number/1", rate=5)
    await cell.client.hdel(cell.keys.name("limit", "number/1"), "tat")
    await tidy(cell, "limit", "number/1", 0.0)
    assert await known(cell, "number/1")


async def test_an_empty_lane_is_forgotten_after_its_time(cell: Cell) -> None:
    await run_dry(cell)
    await tidy(cell, "lane", LANE)
    assert "idle" in await cell.lane()
    await tidy(cell, "lane", LANE, 0.0)
    assert await cell.lane() == {}
    assert await cell.client.exists(cell.keys.name("fair", f"{LANE}:normal")) == 0
    await cell.enqueue(2)
    assert [entry.count for entry in await cell.claim_entries("w1")] == [2]


async def test_a_lane_used_meanwhile_begins_anew(cell: Cell) -> None:
    await run_dry(cell)
    await tidy(cell, "lane", LANE)
    await cell.client.hset(cell.keys.name("lane", LANE), "idle", "5 1")
    await run_dry(cell)
    await tidy(cell, "lane", LANE)
    since, through = (await cell.lane())["idle"].split()
    assert (int(since) > 5, through) == (True, "2")


async def test_lanes_with_messages_or_paused_stay(cell: Cell) -> None:
    await cell.enqueue(1)
    await tidy(cell, "lane", LANE, 0.0)
    assert (await cell.lane())["depth:normal"] == "1"
    await cell.finish("w1", await cell.claim_entries("w1"))
    await cell.claim("w1")
    await cell.client.hset(cell.keys.name("lane", LANE), "paused", 4_000_000_000_000_000)
    await tidy(cell, "lane", LANE, 0.0)
    assert (await cell.lane())["paused"] == "4000000000000000"
