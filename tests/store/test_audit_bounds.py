"""What operators did is kept for a bounded time and in bounded numbers."""

from __future__ import annotations

from tests.store.cell import Cell

MOST, DAY_US = 10_000, 86_400_000_000


async def keep(cell: Cell, times: dict[str, int]) -> None:
    await cell.client.zadd(cell.keys.name("audit"), times)
    actions = dict.fromkeys(times, b"kept")
    await cell.client.hset(cell.keys.name("actions"), mapping=actions)


async def test_the_oldest_leave_when_there_are_too_many(cell: Cell) -> None:
    now_us = await cell.store.inspector.now_us()
    await keep(cell, {f"{n:05}": now_us - 10_000_000 + n for n in range(MOST)})
    await cell.suspend("p/sms/a")
    audit, actions = cell.keys.name("audit"), cell.keys.name("actions")
    assert await cell.client.zcard(audit) == MOST == await cell.client.hlen(actions)
    assert await cell.client.zscore(audit, "00000") is None
    assert await cell.client.hexists(actions, "00001")
    assert (await cell.store.inspector.actions(1))[0].what == "suspend"


async def test_what_is_old_leaves(cell: Cell) -> None:
    now_us = await cell.store.inspector.now_us()
    await keep(cell, {"old": now_us - 91 * DAY_US, "young": now_us - 89 * DAY_US})
    await cell.suspend("p/sms/a")
    assert not await cell.client.hexists(cell.keys.name("actions"), "old")
    assert await cell.client.hexists(cell.keys.name("actions"), "young")
