"""Scripts run twice, and only the second reply is heard, while messages go to several cells and
move between them: nothing is lost, nothing comes twice."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import twice
from dispatcher.store.scripts import Script
from dispatcher.store.spreading import Portion
from tests.campaign import numbers, twilio
from tests.cells.conftest import WEST, Start, assert_nothing_left, halves

LEASE = '[worker]\nlease = "1s"\n'


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each script was asked for."""
    twice.seen.clear()
    monkeypatch.setattr(Script, "__call__", twice.run_twice)
    return twice.seen


async def test_a_batch_whose_provider_gets_another_cell(
    over_cells: Start, simulator_url: str, calls: Counter[str]
) -> None:
    run = await over_cells(halves(simulator_url) + LEASE)
    batches = [await run.submit(numbers(300), class_) for class_ in ("bulk", "normal")]
    west = twilio(simulator_url, name="west", sid=WEST, cell="us")
    run = await over_cells(twilio(simulator_url) + west + LEASE)
    async with run.work():
        for batch in batches:
            assert await run.finished(batch) == {"sent": 300}
    run.assert_each_arrived_once(*((batch, 300) for batch in batches))
    await assert_nothing_left(run)
    assert {"places", "intend", "enqueue", "strays", "depart", "arrive"} <= calls.keys()


@pytest.mark.parametrize("indexes", [(), (0,), (7,), (8, 9), range(3, 900, 7), (1999,)])
@pytest.mark.parametrize("first", [0, 2000])
def test_which_messages_a_cell_has_is_read_as_it_was_written(
    indexes: tuple[int, ...], first: int
) -> None:
    portion = Portion("0badcafe", first, frozenset(first + index for index in indexes))
    assert Portion.parse(portion.text, first).indexes == portion.indexes
