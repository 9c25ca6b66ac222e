"""The breaker of a provider: closed, open, one probe, and back."""

from __future__ import annotations

import pytest

from tests.store.cell import Cell, slots_of

OK = ("p", 1, 0, 0)
FAILED = ("p", 0, 1, 0)
DOWN = ("p", 0, 1, 1)


@pytest.fixture
async def cell(cell: Cell) -> Cell:
    await cell.enqueue(50, size=1)
    return cell


async def state(cell: Cell) -> str:
    return (await cell.claim("w1", 1)).breaker


async def test_twenty_failures_in_a_row_open_it(cell: Cell) -> None:
    for _ in range(19):
        await cell.settle("w1", breakers=[FAILED])
    assert await state(cell) == "closed"
    await cell.settle("w1", breakers=[FAILED])
    claim = await cell.claim("w1")
    assert (claim.breaker, claim.grants) == ("open", [])


async def test_failures_among_answers_leave_it_closed(cell: Cell) -> None:
    for _ in range(100):
        await cell.settle("w1", breakers=[("p", 10, 1, 0)])
    assert await state(cell) == "closed"


async def test_one_answer_that_the_provider_is_down_opens_it(cell: Cell) -> None:
    await cell.settle("w1", breakers=[DOWN])
    assert await state(cell) == "open"


async def test_one_message_probes_and_success_closes_it(cell: Cell) -> None:
    await cell.settle("w1", breakers=[DOWN])
    await cell.pass_time(5)
    probe = await cell.claim("w1")
    assert (probe.breaker, slots_of(probe)) == ("probe", 1)
    other = await cell.claim("w2")
    assert (other.breaker, other.grants) == ("half", [])
    await cell.settle("w1", breakers=[OK])
    claim = await cell.claim("w2")
    assert (claim.breaker, slots_of(claim)) == ("closed", 49)
    await cell.check()


async def test_a_failed_probe_doubles_the_wait(cell: Cell) -> None:
    await cell.settle("w1", breakers=[DOWN])
    await cell.pass_time(5)
    await cell.claim("w1")
    await cell.settle("w1", breakers=[FAILED])
    await cell.pass_time(6)
    assert await state(cell) == "open"
    await cell.pass_time(4)
    assert await state(cell) == "probe"


async def test_a_probe_without_an_outcome_is_followed_by_another(cell: Cell) -> None:
    await cell.settle("w1", breakers=[DOWN])
    await cell.pass_time(5)
    assert await state(cell) == "probe"
    assert await state(cell) == "half"
    await cell.pass_time(10)
    assert await state(cell) == "probe"


async def test_expired_messages_are_no_probe(cell: Cell) -> None:
    past = (await cell.queue.heartbeat("w1")).now_us - 1
    await cell.finish("w1", await cell.claim_entries("w1"))
    await cell.enqueue(64, size=1, expires_us=past)
    await cell.settle("w1", breakers=[DOWN])
    await cell.pass_time(5)
    claim = await cell.claim("w1")
    assert (claim.breaker, slots_of(claim)) == ("probe", 0)
    await cell.enqueue(1)
    claim = await cell.claim("w2")
    assert (claim.breaker, slots_of(claim)) == ("probe", 1)


async def test_late_failures_do_not_prolong_an_open_one(cell: Cell) -> None:
    await cell.settle("w1", breakers=[DOWN])
    await cell.settle("w1", breakers=[DOWN])
    await cell.pass_time(5)
    assert await state(cell) == "probe"


async def test_the_wait_has_a_bound(cell: Cell) -> None:
    for _ in range(10):
        await cell.settle("w1", breakers=[DOWN])
        await cell.pass_time(300)
        await cell.claim("w1", 1)
    await cell.settle("w1", breakers=[DOWN])
    assert (await cell.claim("w1")).next_us <= 300_000_000
    await cell.pass_time(300)
    assert await state(cell) == "probe"


async def test_providers_have_breakers_of_their_own(cell: Cell) -> None:
    await cell.limit("provider:q")
    await cell.enqueue(1, "q/sms/a", limits=("provider:q",))
    await cell.settle("w1", breakers=[DOWN])
    assert slots_of(await cell.claim("w1", provider="q")) == 1
