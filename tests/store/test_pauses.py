"""Pauses that settle writes: what they are for, who is told, and what they do not touch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from dispatcher.store.control import Announcement, Control
from tests.store.cell import LANE, OWN, Cell, settlement

OTHER = "p/sms/b"


@asynccontextmanager
async def heard(cell: Cell) -> AsyncIterator[list[Announcement]]:
    """What is announced meanwhile; complete when the context has ended."""
    found: list[Announcement] = []
    control = Control(cell.store.blocking, cell.keys)
    subscribed = asyncio.Event()

    async def listen() -> None:
        async with aclosing(control.announcements()) as announcements:
            async for announcement in announcements:
                if announcement is None:
                    subscribed.set()
                elif announcement.what == "end":
                    return
                else:
                    found.append(announcement)

    async with asyncio.timeout(30):
        listening = asyncio.create_task(listen())
        try:
            await subscribed.wait()
            yield found
            await cell.client.publish(cell.keys.name("control"), "end")
            await listening
        finally:
            listening.cancel()


async def test_others_learn_of_a_pause_and_whose_it_is(cell: Cell) -> None:
    number = (await cell.queue.heartbeat("w1")).control
    async with heard(cell) as announcements:
        await cell.settle("w1", throttled=[(OWN, 2_000_000), (f"lane:{LANE}", 2_000_000)])
    assert announcements == [Announcement(f"{OWN} lane:{LANE}", "w1")]
    assert (await cell.queue.heartbeat("w1")).control == number + 1


async def test_others_learn_of_a_pause_that_becomes_longer(cell: Cell) -> None:
    async with heard(cell) as announcements:
        await cell.settle("w1", throttled=[(OWN, 60_000_000)])
        await cell.settle("w2", throttled=[(OWN, 59_000_000)])
        await cell.settle("w2", throttled=[(OWN, 90_000_000)])
    assert [one.origin for one in announcements] == ["w1", "w2"]


async def test_a_pause_of_a_limit_nobody_knows_is_left_out(cell: Cell) -> None:
    async with heard(cell) as announcements:
        await cell.settle("w1", throttled=[("numbers/+49", 2_000_000)])
    assert announcements == []
    assert await cell.limit_state("numbers/+49") == {}


async def test_answers_of_several_workers_are_one_event(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    for _ in range(3):
        for worker in ("w1", "w2"):
            await cell.settle(worker, throttled=[(OWN, 1_000_000)])
    assert (await cell.limit_state())["factor"] == pytest.approx(0.7)


async def test_the_rate_comes_back_by_itself(cell: Cell) -> None:
    await cell.limit(OWN, rate=100)
    await cell.enqueue(500, size=1)
    await cell.settle("w1", throttled=[(OWN, 1_000_000)])
    spacings = []
    for seconds in (1.05, 2, 4):
        await cell.pass_time(seconds)
        (grant,) = (await cell.claim("w1")).grants
        spacings.append(grant.spacing_us)
    expected = [10_000 / (0.7 + 0.05 * 1.05), 10_000 / (0.7 + 0.05 * 3.05), 10_000]
    assert spacings == pytest.approx(expected, rel=0.01)


async def test_a_paused_lane_holds_up_no_other(cell: Cell) -> None:
    await cell.enqueue(5)
    await cell.enqueue(5, OTHER)
    await cell.settle("w1", throttled=[(f"lane:{LANE}", 3_000_000)])
    assert {grant.lane for grant in (await cell.claim("w1")).grants} == {OTHER}
    assert (await cell.limit_state()).keys().isdisjoint({"pause", "factor"})
    await cell.pass_time(3)
    assert {grant.lane for grant in (await cell.claim("w1")).grants} == {LANE}


async def test_a_tenant_has_as_many_queued_as_wait_for_an_outcome(cell: Cell) -> None:
    name = cell.keys.name("queued_by")
    await cell.enqueue(6, size=2)
    entries = await cell.claim_entries("w1")
    assert await cell.client.hgetall(name) == {b"default": b"6"}
    await cell.settle("w1", settlement(entries[0]))
    assert await cell.client.hgetall(name) == {b"default": b"4"}
    await cell.finish("w1", entries[1:])
    assert await cell.client.hgetall(name) == {}
