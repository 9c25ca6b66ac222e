"""Thousands of lanes and limits are written without holding up the store: some at a time."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from dispatcher.limits import Limit
from dispatcher.store.limit_plans import PORTION
from dispatcher.store.queue import NewLane
from dispatcher.store.scripts import Argument, Script
from tests.store.cell import OWN, Cell

MANY = 2 * PORTION + 1
LANES = [f"p/sms/a{number}" for number in range(MANY)]


async def test_they_are_written_in_portions(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    call, sizes = Script.__call__, list[tuple[int, int]]()

    async def counted(self: Script, key: str, *arguments: Argument) -> Any:
        if self.name == "limits":
            plan = msgpack.unpackb(arguments[0])
            sizes.append((len(plan["limits"]), len(plan["lanes"])))
        return await call(self, key, *arguments)

    monkeypatch.setattr(Script, "__call__", counted)
    limits = [Limit(OWN, 1000.0), *(Limit(f"numbers/{number}", 1e6) for number in range(MANY - 1))]
    number = await cell.queue.write_limits(limits, [NewLane(lane, (OWN,)) for lane in LANES])
    assert sizes == [(PORTION, 0), (PORTION, 0), (1, 0), (0, PORTION), (0, PORTION), (0, 1)]
    assert await cell.queue.write_limits([], []) == number
    assert len(await cell.store.inspector.limit_names()) == MANY
    views = await cell.store.inspector.lanes(LANES)
    assert {view.limits for view in views} == {(OWN,)}


async def test_a_changed_limit_wakes_all_that_wait_where_they_are_many(cell: Cell) -> None:
    await cell.limit(OWN, 10)
    await cell.limit("numbers/1", 10)
    await cell.enqueue(1, LANES[0], limits=(OWN, "numbers/1"))
    lanes, far_us = cell.keys.name("lanes", "p"), await cell.store.inspector.now_us() + 60_000_000
    for others, woken in ((10, 1), (MANY, MANY)):
        await cell.client.zadd(lanes, dict.fromkeys(LANES[:others], far_us))
        await cell.limit("numbers/1", 10 + others)
        assert await cell.client.zcount(lanes, "-inf", f"({far_us}") == woken
        assert await cell.client.llen(cell.keys.name("bell", "p")) == 1
