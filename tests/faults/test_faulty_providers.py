"""A provider's code goes wrong: its messages get an outcome that says so, and nothing stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.campaign import Campaign, numbers, table_of

Start = Callable[[str], Campaign]
RETRY = '[retry]\nmax_attempts = 2\nbase = "1ms"\nmax = "2ms"\n'
MESSAGES = 6


def faulty(url: str, fault: str, batch: int) -> str:
    keys = {"kind": "tests.faults.faulty:Faulty", "url": f"{url}/webhook/demo"}
    return table_of(
        "providers.faulty", {**keys, "fault": fault, "batch": batch, "batch_wait": "1ms"}
    )


OUTCOMES = {
    "compose raises": ("dead", "unsendable"),
    "no request": ("dead", "unsendable"),
    "body as text": ("dead", "unsendable"),
    "no time-out": ("dead", "unsendable"),
    "url without a host": ("dead", "protocol"),
    "headers of numbers": ("dead", "protocol"),
    "read raises": ("unknown", "unreadable"),
    "not a verdict": ("unknown", "unreadable"),
    "a number for an id": ("sent", None),
    "half a character in an id": ("sent", None),
    "half a character in a detail": ("dead", "?"),
    "too few verdicts": ("unknown", "unreadable"),
    "half a character in a refusal": ("dead", "?"),
}
REQUESTS = {"too few verdicts": (3,), "half a character in a refusal": (1,)}
"""How many messages a request carries, where a fault is not one of all requests."""


@pytest.mark.parametrize(
    ("fault", "batch"),
    [(fault, batch) for fault in OUTCOMES for batch in REQUESTS.get(fault, (1, 3))],
)
async def test_each_message_gets_an_outcome(
    campaign: Start, simulator_url: str, fault: str, batch: int
) -> None:
    outcome, code = OUTCOMES[fault]
    run = campaign(faulty(simulator_url, fault, batch) + RETRY)
    id = await run.submit(numbers(MESSAGES))
    async with run.work() as worker:
        assert await run.finished(id) == {outcome: MESSAGES}
        assert not worker.done()
    assert await run.is_empty()
    assert {record.code for _, record in (await run.records(id)).values()} == {code}
    assert set(run.arrived().values()) <= {1}
    assert len(await run.letters()) == (0 if outcome == "sent" else MESSAGES)
