"""Claims of a store that is far away: slots begin when the answer can be there, and last until the
next one can."""

from __future__ import annotations

from itertools import chain

import pytest

from dispatcher.store.claims import NEAR, Claim, Lead
from tests.store.cell import Cell, slot_times, slots_of
from tests.store.test_limits_model import worst_burst

RATE = 200


def times_of(claim: Claim, lead: Lead) -> list[float]:
    return [time + lead.back for grant in claim.grants for time in slot_times(claim, grant)]


async def test_slots_begin_when_the_answer_can_be_there(cell: Cell) -> None:
    await cell.limit(rate=RATE)
    await cell.enqueue(1000)
    (grant,) = (await cell.claim("w1", lead=Lead(0.0, 0.3))).grants
    assert grant.offset_us == 0
    assert grant.count == pytest.approx((0.15 + 0.3) * RATE, abs=1)
    assert (await cell.claim("w1", lead=Lead(0.0, 0.3))).grants == []


@pytest.mark.parametrize("lead", [Lead(0.05, 0.05), Lead(0.0, 0.4), Lead(0.3, 0.0), Lead(0.5, 0.5)])
async def test_the_whole_rate_is_used_from_afar_and_never_more(cell: Cell, lead: Lead) -> None:
    await cell.limit(rate=RATE)
    await cell.enqueue(5000, size=20)
    moved, used, began = 0.0, list[float](), None
    while moved < 6:
        claim = await cell.claim("w1", lead=lead)
        used += [time + moved for time in times_of(claim, lead)]
        began = began or used[0]
        wait = max(claim.next_us / 1e6, lead.there + lead.back, 0.01)
        await cell.pass_time(wait)
        moved += wait
    assert worst_burst(used, RATE) <= 1.01
    assert len(used) >= 0.99 * RATE * (used[-1] - began)


async def test_near_and_far_workers_share_one_limit(cell: Cell) -> None:
    await cell.limit(rate=RATE)
    await cell.worker("w2")
    await cell.enqueue(5000, size=20)
    moved, used = 0.0, {NEAR: list[float](), Lead(0.1, 0.1): list[float]()}
    for turn in range(40):
        for worker, lead in zip(("w1", "w2"), used, strict=True):
            claim = await cell.claim(worker, lead=lead)
            used[lead] += [time + moved for time in times_of(claim, lead)]
            await cell.pass_time(0.04 + turn % 5 / 100)
            moved += 0.04 + turn % 5 / 100
    assert all(used.values())
    times = sorted(chain(*used.values()))
    assert worst_burst(times, RATE) <= 1.01
    assert len(times) >= 0.95 * RATE * moved


async def test_what_is_scheduled_does_not_come_early_for_the_way(cell: Cell) -> None:
    await cell.limit()
    now_us = (await cell.queue.heartbeat("w1")).now_us
    await cell.enqueue(10, due_us=now_us + 300_000)
    assert slots_of(await cell.claim("w1", lead=Lead(0.5, 0.5))) == 0
    await cell.pass_time(0.4)
    assert slots_of(await cell.claim("w1", lead=Lead(0.5, 0.5))) == 10
