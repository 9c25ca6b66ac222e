"""Requests that are too large are divided, and each of the parts counts where requests do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from dispatcher.errors import SendError
from dispatcher.exchange import Accepted, HttpAnswer
from dispatcher.providers.answers import too_large
from dispatcher.providers.webhook import Webhook
from tests.campaign import Campaign, numbers, webhook

Start = Callable[[str], Campaign]
RATE = 20
LIMIT = f'[[limits]]\nname = "calls"\nprovider = "hook"\nrate = "{RATE}/s"\nunit = "request"\n'
FIT, MESSAGES = 8, 256


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Messages of each request; those with more than FIT are refused."""
    read, seen = Webhook.read_batch, list[int]()

    def refuse(self: Webhook, answer: HttpAnswer, count: int) -> Sequence[Accepted | SendError]:
        seen.append(count)
        return [too_large(answer, count)] * count if count > FIT else read(self, answer, count)

    monkeypatch.setattr(Webhook, "read_batch", refuse)
    return seen


async def test_no_more_requests_go_out_than_may(
    campaign: Start, simulator_url: str, asked: list[int]
) -> None:
    run = campaign(webhook(simulator_url, batch=64) + LIMIT)
    batch = await run.submit(numbers(MESSAGES))
    async with run.work():
        assert await run.finished(batch) == {"sent": MESSAGES}
    times = sorted({one.arrived_ns / 1e9 for one in run.simulator.journal.entries()})
    assert len(times) == len(asked) <= MESSAGES // FIT + 8
    assert times[-1] - times[0] >= (len(asked) - 1) / RATE - 0.2


async def test_without_such_a_limit_the_parts_go_at_once(
    campaign: Start, simulator_url: str, asked: list[int]
) -> None:
    run = campaign(webhook(simulator_url, batch=64))
    batch = await run.submit(numbers(64))
    async with run.work():
        assert await run.finished(batch) == {"sent": 64}
    assert Counter(asked) == {64: 1, 32: 2, 16: 4, 8: 8}
