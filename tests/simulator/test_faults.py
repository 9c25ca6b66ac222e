"""Each fault as a client meets it, and when faults strike."""

from __future__ import annotations

import json
import random

import msgspec
import pytest

from dispatcher.errors import ConfigError
from dispatcher.simulator import (
    Close,
    Fault,
    Garbage,
    Hang,
    Latency,
    Refuse,
    ResetAfter,
    ResetBefore,
    Settings,
    Simulator,
    Slow,
    Truncate,
    TwilioAccount,
)
from dispatcher.simulator.faults import GARBAGE, AnyFault, FaultPlan, parse_fault
from dispatcher.simulator.provider import Submission
from tests.simulator.clients import LABEL, Client, hook, message, sms


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Refuse(500), 500, 20500),
        (Refuse(503), 503, 20503),
        (Refuse(429), 429, 20429),
        (Refuse(code="20429"), 429, 20429),
        (Refuse(code="21610"), 400, 21610),
        (Refuse(code="30001"), 400, 30001),
        (Refuse(code="63018", status=429), 429, 63018),
    ],
)
async def test_refuse_in_the_words_of_twilio(
    simulator: Simulator, client: Client, fault: Fault, status: int, code: int
) -> None:
    simulator.set_faults([fault])
    answer = await client.sms()
    assert (answer.status, answer.json["code"]) == (status, code)
    assert "retry-after" not in answer.headers
    (entry,) = simulator.journal.entries()
    assert (entry.event, entry.code, entry.to) == ("refused", str(code), "+4915111111111")


async def test_refuse_with_retry_after_and_a_body_of_its_own(
    simulator: Simulator, client: Client
) -> None:
    simulator.set_faults([Refuse(429, retry_after=1.2), Refuse(502, body="<h1>Bad Gateway</h1>")])
    assert (await client.sms()).headers["retry-after"] == "2"
    simulator.set_faults([Refuse(502, body="<h1>Bad Gateway</h1>")])
    answer = await client.sms()
    assert (answer.status, answer.body) == (502, b"<h1>Bad Gateway</h1>")


@pytest.mark.parametrize(
    ("status", "error"), [(429, "throttled"), (500, "unavailable"), (403, "suspended")]
)
async def test_refuse_in_the_words_of_the_webhook(
    simulator: Simulator, client: Client, status: int, error: str
) -> None:
    simulator.set_faults([Refuse(status)])
    answer = await client.send(hook(message("b-0"), "b-0"))
    assert (answer.status, answer.json["error"]) == (status, error)


@pytest.mark.parametrize(
    ("fault", "accepted"), [(ResetBefore(), 0), (ResetAfter(), 1)], ids=["before", "after"]
)
async def test_reset(simulator: Simulator, client: Client, fault: Fault, accepted: int) -> None:
    simulator.set_faults([fault])
    client.writer.write(sms())
    with pytest.raises(ConnectionResetError):
        await client.read_end()
    assert simulator.counts.accepted == accepted
    assert simulator.counts.refused == ({} if accepted else {"reset-before": 1})


@pytest.mark.parametrize("accept", [True, False])
async def test_hang(simulator: Simulator, client: Client, accept: bool) -> None:
    simulator.set_faults([Hang(accept=accept)])
    client.writer.write(sms())
    assert await client.is_silent()
    assert simulator.counts.accepted == int(accept)
    assert simulator.counts.refused == ({} if accept else {"hang": 1})


@pytest.mark.parametrize("accept", [True, False])
async def test_garbage(simulator: Simulator, client: Client, accept: bool) -> None:
    simulator.set_faults([Garbage(accept=accept)])
    client.writer.write(sms())
    assert await client.read_end() == GARBAGE
    assert simulator.counts.accepted == int(accept)


async def test_truncated_json_in_whole_http(simulator: Simulator, client: Client) -> None:
    simulator.set_faults([Truncate()])
    answer = await client.sms()
    assert answer.status == 201
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)
    assert (await client.sms()).status == 201
    assert simulator.counts.accepted == 2


async def test_truncated_http(simulator: Simulator, client: Client) -> None:
    simulator.set_faults([Truncate(wire=True)])
    client.writer.write(sms())
    head, _, body = (await client.read_end()).partition(b"\r\n\r\n")
    announced = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
    assert 0 < len(body) < announced


async def test_close_after_the_answer(simulator: Simulator, client: Client) -> None:
    simulator.set_faults([Close()])
    answer = await client.sms()
    assert (answer.status, answer.headers["connection"]) == (201, "close")
    assert await client.read_end() == b""


async def test_slow_adds_to_what_follows(simulator: Simulator, client: Client) -> None:
    simulator.set_faults([Slow(0.01, times=1), Refuse(500, times=1), Slow(60)])
    assert (await client.sms()).status == 500
    client.writer.write(sms())
    assert await client.is_silent()
    assert simulator.counts.accepted == 1


async def test_latency_holds_the_answer_back_but_not_the_message() -> None:
    simulator = Simulator(Settings((TwilioAccount(latency=Latency(60)),)))
    url = await simulator.start()
    async with Client(url) as client:
        client.writer.write(sms())
        assert await client.is_silent()
        assert simulator.counts.accepted == 1
        simulator.change_account(LABEL, latency={"mean": 0.001})
        async with Client(url) as other:
            assert (await other.sms()).headers["twilio-concurrent-requests"] == "2"
    await simulator.stop()


@pytest.mark.parametrize("shape", ["uniform", "lognormal"])
def test_latencies_have_the_mean_that_was_asked_for(shape: str) -> None:
    latency = msgspec.convert({"mean": 0.1, "jitter": 0.05, "shape": shape}, Latency)
    rng = random.Random(1)
    drawn = [latency.draw(rng) for _ in range(20_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.1, rel=0.02)
    assert min(drawn) > 0
    if shape == "uniform":
        assert min(drawn) >= 0.05 and max(drawn) <= 0.15
    else:
        assert max(drawn) > 0.3


HERE = (Submission("+4915111111111", "SHOP", "Hi"),)
THERE = (Submission("+12025550123", "SHOP", "Hi"), Submission("+4915111111111", "SHOP", "Hi"))


def strikes(*faults: Fault, label: str = LABEL, of: int = 12) -> list[int]:
    """The numbers, from 1, of the requests that a fault ended."""
    plan = FaultPlan(faults, random.Random(7))
    return [n for n in range(1, of + 1) if plan.strike(label, HERE).fault]


def test_when_a_fault_strikes() -> None:
    assert strikes(Hang(every=4)) == [4, 8, 12]
    assert strikes(Hang(times=2)) == [1, 2]
    assert strikes(Hang(every=5, times=1)) == [5]
    assert strikes(Hang(probability=0)) == []
    assert strikes(Hang(to="+49151"), of=2) == [1, 2]
    assert strikes(Hang(to="+1")) == []
    assert strikes(Hang(account="twilio"), of=1) == [1]
    assert strikes(Hang(account=LABEL), of=1) == [1]
    assert strikes(Hang(account="webhook")) == []
    assert strikes(Hang(account="twi")) == []


def test_any_message_of_a_batch_may_match() -> None:
    plan = FaultPlan([Hang(to="+49")], random.Random())
    assert isinstance(plan.strike("webhook/demo", THERE).fault, Hang)


def test_the_first_fault_that_strikes_ends_the_walk() -> None:
    plan = FaultPlan([Refuse(500, every=2), Hang()], random.Random())
    kinds = [type(plan.strike(LABEL, HERE).fault) for _ in range(4)]
    assert kinds == [Hang, Refuse, Hang, Refuse]
    assert plan.struck() == [2, 2]


def test_slow_and_close_add_up() -> None:
    plan = FaultPlan([Slow(1), Close(), Slow(2), Hang(every=2), Slow(4)], random.Random())
    assert plan.strike(LABEL, HERE) == (7, Close())
    assert plan.strike(LABEL, HERE) == (3, Hang(every=2))


def test_probability_is_a_share_and_a_seed_repeats_it() -> None:
    struck = strikes(Hang(probability=0.03), of=20_000)
    assert 500 < len(struck) < 700
    assert struck == strikes(Hang(probability=0.03), of=20_000)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("500:3%", Refuse(500, probability=0.03)),
        ("21610", Refuse(code="21610")),
        ("429:5%:retry_after=2", Refuse(429, probability=0.05, retry_after=2)),
        ("slow:10%:seconds=0.5", Slow(0.5, probability=0.1)),
        ("reset-after:every=100", ResetAfter(every=100)),
        ("hang:accept=false:to=+49", Hang(accept=False, to="+49")),
        ("truncate:wire=true:times=1", Truncate(wire=True, times=1)),
    ],
)
def test_a_fault_as_text(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault
    assert msgspec.convert(msgspec.to_builtins(fault), AnyFault) == fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "boom",
        "5e2",
        "200",
        "500:x%",
        "500:3",
        "500:101%",
        "slow",
        "hang:status=1",
        "42:every=0",
    ],
)
def test_a_wrong_text_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^fault .+$"):
        parse_fault(text)
