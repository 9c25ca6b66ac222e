"""Dead letters are read page by page while others remove some: each that stays comes once."""

from __future__ import annotations

import pytest

from dispatcher.messages import Content, Envelope, Row, encode_body, new_ulid
from dispatcher.store.letters import PAGE, Letters
from tests.store.cell import LANE, Cell
from tests.store.letter import bury

SETS = {
    "one by one": lambda number: number,
    "many at a time": lambda number: number // (PAGE + 50),
    "all at once": lambda number: 0,
}


async def bury_all(cell: Cell, count: int, at: str) -> list[str]:
    """Letters that were written at these times, the oldest first."""
    envelope = Envelope(cell.batch, "default", "sms", "bulk", "SHOP", 0, 0, Content(text="Hi"))
    body, dead = encode_body(envelope, [Row(0, "+4915100000000")]), cell.keys.name("dead")
    batch = new_ulid(2)
    messages = [f"{batch}-{number:04}" for number in range(count)]
    await bury(cell.store, messages[0], body, lane=LANE)
    letter = await cell.client.hget(cell.keys.name("letters"), messages[0])
    times = {message: 1000 + SETS[at](n) for n, message in enumerate(messages)}
    await cell.client.zadd(dead, times)
    await cell.client.hset(cell.keys.name("letters"), mapping=dict.fromkeys(messages, letter))
    return messages


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("at", SETS)
async def test_what_is_removed_meanwhile_moves_no_page(
    store_cell: Cell, at: str, newest_first: bool
) -> None:
    cell = store_cell
    messages = await bury_all(cell, 3 * PAGE + 70, at)
    (letters,) = Letters(cell.client, cell.keys).cells
    gone = iter([messages[:50], messages[-30:], messages[100:200]])
    removed, seen = set[str](), list[str]()
    async for page in letters.pages(0, newest_first=newest_first):
        seen += [found.message for found in page]
        some = next(gone, [])
        removed.update(some)
        await cell.client.zrem(cell.keys.name("dead"), *(some or ["none"]))
    assert len(seen) == len(set(seen))
    assert set(messages) - set(seen) <= removed


async def test_what_is_written_meanwhile_is_not_among_them(store_cell: Cell) -> None:
    cell = store_cell
    messages = await bury_all(cell, PAGE + 10, "one by one")
    (letters,) = Letters(cell.client, cell.keys).cells
    seen = []
    async for page in letters.pages(0):
        seen += [found.message for found in page]
        await cell.client.zadd(cell.keys.name("dead"), {"later": 2_000_000})
    assert seen == messages


async def test_only_those_since_a_time_are_read(store_cell: Cell) -> None:
    messages = await bury_all(store_cell, 20, "one by one")
    (letters,) = Letters(store_cell.client, store_cell.keys).cells
    seen = [found.message async for page in letters.pages(1015) for found in page]
    assert seen == messages[15:]
