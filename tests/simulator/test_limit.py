"""The limit of an account, exactly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.simulator import Settings, Simulator, WebhookAccount
from dispatcher.simulator.limit import Bucket
from tests.simulator.clients import LABEL, Client, hook, message, sms

SECOND = 1_000_000_000


def test_the_burst_then_one_per_interval() -> None:
    bucket = Bucket(rate=10, burst=3)
    start = 123 * SECOND
    assert [bucket.take(start) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(start) * 10 == 1
    assert bucket.take(start + SECOND // 10 - 1) > 0
    assert bucket.take(start + SECOND // 10) == 0
    assert bucket.take(start + SECOND // 10) > 0
    assert [bucket.take(start + 9 * SECOND) for _ in range(4)].count(0) == 3


@given(
    rate=st.integers(1, 5000),
    burst=st.integers(1, 100),
    gaps=st.lists(st.integers(0, SECOND // 20), min_size=1, max_size=300),
)
def test_no_window_holds_more_than_burst_and_rate(rate: int, burst: int, gaps: list[int]) -> None:
    bucket, now, taken = Bucket(rate, burst), 0, []
    for gap in gaps:
        now += gap
        if not bucket.take(now):
            taken.append(now)
    for first in range(0, len(taken), 7):
        for last in range(first, len(taken)):
            window = (taken[last] - taken[first]) / SECOND
            assert last - first + 1 <= burst + rate * window + 1e-6


def test_a_greedy_client_gets_exactly_the_rate() -> None:
    bucket = Bucket(rate=70, burst=7)
    taken = sum(not bucket.take(tick * SECOND // 1000) for tick in range(10_000))
    assert taken == 70 * 10 + 7 - 1


def test_a_large_request_passes_and_is_paid_for() -> None:
    bucket = Bucket(rate=10, burst=1)
    assert bucket.take(0, 50) == 0
    assert bucket.take(5 * SECOND - 1) > 0
    assert bucket.take(5 * SECOND) == 0


async def test_above_the_limit_twilio_answers_429(simulator: Simulator, client: Client) -> None:
    simulator.change_account(LABEL, rate=0.001, burst=20)
    client.writer.write(sms() * 50)
    answers = [await client.read() for _ in range(50)]
    assert [one.status for one in answers] == [201] * 20 + [429] * 30
    assert answers[-1].json["code"] == 20429
    assert "retry-after" not in answers[-1].headers
    assert simulator.counts.accepted == 20
    assert simulator.counts.refused == {"20429": 30}
    assert (await client.sms(To="")).json["code"] == 21604


async def test_above_the_limit_the_webhook_names_the_time() -> None:
    simulator = Simulator(Settings((WebhookAccount(rate=0.1, burst=1),)))
    async with Client(await simulator.start()) as client:
        batch = {"messages": [message(f"b-{n}") for n in range(3)]}
        assert (await client.send(hook(batch, "hash"))).status == 202
        answer = await client.send(hook(message("b-3"), "b-3"))
        assert (answer.status, answer.headers["retry-after"]) == (429, "30")
    await simulator.stop()
