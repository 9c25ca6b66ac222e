"""Content that is long and has many recipients: the store and its calls hold it a few times, not
once per message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.engine import settler
from dispatcher.messages import Content
from dispatcher.simulator import Refuse
from dispatcher.store.scripts import Argument, Script
from tests.campaign import Campaign, numbers, webhook

Start = Callable[[str], Campaign]
LONG = 100_000
LETTER = Content(text="x" * LONG)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Bytes of the calls and replies of each script."""
    run = Script.__call__
    seen: dict[str, list[int]] = {}

    async def measure(self: Script, key: str, *arguments: Argument) -> Any:
        reply = await run(self, key, *arguments)
        given = sum(len(word) for word in arguments if isinstance(word, bytes))
        seen.setdefault(self.name, []).append(given + len(repr(reply)))
        return reply

    monkeypatch.setattr(Script, "__call__", measure)
    return seen


async def held_back(run: Campaign) -> int:
    return int(await run.store.client.hlen(run.store.keys.name("items")))


async def test_messages_of_one_request_go_back_together(
    campaign: Start, simulator_url: str, sizes: dict[str, list[int]]
) -> None:
    run = campaign(webhook(simulator_url, batch=100))
    run.simulator.set_faults([Refuse(503, times=2)])
    batch = await run.submit(numbers(200), content=LETTER)
    async with run.work():
        assert await run.finished(batch) == {"sent": 200}
    assert (await run.view(batch)).events["retried"] == 200
    assert max(sizes["settle"]) < 5 * LONG
    run.assert_each_arrived_once((batch, 200))


async def test_a_slow_lane_shares_its_entries(campaign: Start, sizes: dict[str, list[int]]) -> None:
    run = campaign(webhook("http://127.0.0.1:9", rate="1/s"))
    await run.submit(numbers(1000), content=LETTER)
    assert max(sizes["enqueue"]) < 15 * LONG


async def test_dead_letters_are_written_in_several_calls(
    campaign: Start,
    simulator_url: str,
    sizes: dict[str, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settler, "COALESCE_SECONDS", 0.4)
    monkeypatch.setattr(settler, "CALL_BYTES", 10 * LONG)
    run = campaign(webhook(simulator_url))
    run.simulator.set_faults([Refuse(400)])
    batches = [await run.submit(numbers(5), content=LETTER) for _ in range(8)]
    async with run.work():
        for batch in batches:
            assert await run.finished(batch) == {"dead": 5}
    assert len(await run.letters()) == 40
    assert max(sizes["settle"]) < 16 * LONG


async def test_a_claim_brings_so_much_at_once(
    campaign: Start, simulator_url: str, sizes: dict[str, list[int]]
) -> None:
    run = campaign(webhook(simulator_url))
    batches = [await run.submit(numbers(1), content=LETTER) for _ in range(150)]
    async with run.work():
        for batch in batches:
            assert await run.finished(batch) == {"sent": 1}
    assert max(sizes["claim"]) < 10_000_000
