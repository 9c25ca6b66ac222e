"""How many calls of a command are under way, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

import pytest

from dispatcher.cli.running import run_all


class Calls:
    """Calls that end when they are told to; `asked` of them were made so far."""

    def __init__(self, number: int) -> None:
        self.asked = 0
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.go = [asyncio.Event() for _ in range(number)]

    def __iter__(self) -> Iterator[Coroutine[Any, Any, None]]:
        for number in range(len(self.go)):
            self.asked += 1
            yield self._call(number)

    async def _call(self, number: int) -> None:
        try:
            await self.go[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        self.ended.append(number)
        if number == 3:
            raise ValueError("the fourth")


async def bounded(calls: Iterable[Coroutine[Any, Any, None]], most: int) -> None:
    async with asyncio.timeout(5):
        await run_all(calls, most)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_calls_than_allowed_and_each_in_its_turn() -> None:
    calls = Calls(3)
    running = asyncio.create_task(run_all(calls, 2))
    await turns()
    assert calls.asked == 2
    calls.go[1].set()
    await turns()
    assert (calls.asked, calls.ended) == (3, [1])
    assert not running.done()
    calls.go[2].set()
    calls.go[0].set()
    await running
    assert sorted(calls.ended) == [0, 1, 2]


async def test_an_error_ends_the_others() -> None:
    calls = Calls(10)
    for number in (0, 1, 3):
        calls.go[number].set()
    with pytest.raises(ValueError, match="the fourth"):
        await bounded(calls, 2)
    assert sorted(calls.ended) == [0, 1, 3]
    assert calls.cancelled in ([2], [2, 4])
    assert calls.asked <= 5


async def test_an_error_of_the_iteration_ends_those_under_way() -> None:
    calls = Calls(2)

    def broken() -> Iterator[Coroutine[Any, Any, None]]:
        yield from calls
        raise OSError("cannot be read")

    with pytest.raises(OSError, match="cannot be read"):
        await bounded(broken(), 5)
    assert asyncio.all_tasks() == {asyncio.current_task()}
