"""The journal, the counts and the control endpoints."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest

from dispatcher.simulator import Simulator
from dispatcher.simulator.journal import MAX_REFUSED, Journal
from dispatcher.simulator.provider import Submission
from tests.simulator.clients import LABEL, Answer, Client, request, sms


def lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.body.splitlines()]


def put(path: str, document: Any) -> bytes:
    return request("PUT", path, json.dumps(document).encode())


async def test_an_entry(client: Client) -> None:
    before = time.monotonic_ns(), time.time_ns() // 1000
    callback = "https://example.com/hooks/twilio?x=1&m=01J-7"
    sid = (await client.sms(Body="Grüße", StatusCallback=callback)).json["sid"]
    after = time.monotonic_ns(), time.time_ns() // 1000
    (entry,) = lines(await client.get("/_/journal"))
    assert before[0] <= entry.pop("arrived_ns") <= after[0]
    assert before[1] <= entry.pop("wall_us") <= after[1]
    assert entry == {
        "n": 0,
        "event": "accepted",
        "account": LABEL,
        "id": sid,
        "code": "",
        "to": "+4915111111111",
        "sender": "+4915550006",
        "key": "",
        "message": "01J-7",
        "text": hashlib.sha1("Grüße".encode()).hexdigest()[:12],
    }


@pytest.mark.parametrize(
    ("query", "message"), [("?m=a", "a"), ("?id=b%2D0", "b-0"), ("?n=c", ""), ("", ""), ("?m", "")]
)
async def test_the_senders_own_id(
    simulator: Simulator, client: Client, query: str, message: str
) -> None:
    await client.sms(StatusCallback=f"https://example.com/hook{query}")
    assert next(simulator.journal.entries()).message == message


async def test_the_journal_goes_on_from_a_number(simulator: Simulator, client: Client) -> None:
    client.writer.write(b"".join(sms(To=f"+49151{n:08}") for n in range(1200)))
    for _ in range(1200):
        await client.read()
    everything = lines(await client.get("/_/journal"))
    assert [one["n"] for one in everything] == list(range(1200))
    assert [one["to"] for one in everything] == [f"+49151{n:08}" for n in range(1200)]
    assert lines(await client.get("/_/journal?from=1199")) == everything[1199:]
    assert lines(await client.get("/_/journal?from=1200")) == []
    assert len(simulator.journal) == 1200


async def test_a_large_journal_is_streamed_to_a_slow_reader(
    simulator: Simulator, client: Client
) -> None:
    one = Submission("+4915111111111", "SHOP", "Hi")
    for number in range(60_000):
        simulator.journal.add("accepted", LABEL, one, number, id=f"SM{number:032x}")
    client.writer.write(request("GET", "/_/journal") + sms())
    answer = await client.read()
    assert answer.body.count(b"\n") == 60_000
    assert json.loads(answer.body.splitlines()[-1])["arrived_ns"] == 59_999
    assert (await client.read()).status == 201


async def test_counts_and_forgetting(simulator: Simulator, client: Client) -> None:
    await client.sms()
    await client.sms(To="")
    counts = (await client.get("/_/counts")).json
    assert counts == {
        "requests": 2,
        "connections": 1,
        "accepted": 1,
        "repeats": 0,
        "refused": {"21604": 1},
        "accepted_by_account": {LABEL: 1},
    }
    assert (await client.send(request("DELETE", "/_/journal"))).status == 204
    assert (await client.get("/_/counts")).json["accepted"] == 0
    assert lines(await client.get("/_/journal")) == []


def test_refused_messages_are_listed_up_to_a_bound() -> None:
    journal = Journal()
    one = Submission("+4915111111111", "SHOP", "Hi")
    for number in range(MAX_REFUSED + 5):
        journal.add("refused", LABEL, one, number, code="21610")
    journal.add("accepted", LABEL, one, 0, id="SM1")
    assert journal.counts.refused == {"21610": MAX_REFUSED + 5}
    assert len(journal) == MAX_REFUSED + 1


async def test_faults_change_while_it_runs(client: Client) -> None:
    ordered = [{"fault": "refuse", "status": 503, "times": 1}, {"fault": "slow", "seconds": 0.0}]
    assert (await client.send(put("/_/faults", ordered))).status == 204
    assert [(await client.sms()).status for _ in range(2)] == [503, 201]
    listed = (await client.get("/_/faults")).json
    assert listed == [{**ordered[0], "struck": 1}, {**ordered[1], "struck": 1}]
    assert (await client.send(put("/_/faults", ["503:times=1", ordered[1]]))).status == 204
    assert (await client.get("/_/faults")).json == [{**one, "struck": 0} for one in ordered]
    assert (await client.send(put("/_/faults", []))).status == 204
    assert (await client.get("/_/faults")).json == []


async def test_an_account_changes_while_it_runs(client: Client) -> None:
    path = f"/_/accounts/{LABEL}"
    assert (await client.send(put(path, {"suspended": True}))).status == 204
    assert (await client.sms()).json["code"] == 20005
    change = {"suspended": False, "rate": 0.001, "latency": {"mean": 0.001}}
    assert (await client.send(put(path, change))).status == 204
    assert [(await client.sms()).status for _ in range(2)] == [201, 429]


@pytest.mark.parametrize(
    ("path", "document", "says"),
    [
        ("/_/faults", [{"fault": "boom"}], "boom"),
        ("/_/faults", ["boom"], "boom"),
        ("/_/faults", ["503:often"], "often"),
        ("/_/faults", {}, "array"),
        ("/_/faults", [{"fault": "slow"}], "seconds"),
        ("/_/faults", [{"fault": "hang", "probability": 2}], "0 to 1"),
        (f"/_/accounts/{LABEL}", {"rates": 1}, "rates"),
        (f"/_/accounts/{LABEL}", {"rate": 0}, "above 0"),
        (f"/_/accounts/{LABEL}", {"rate": "x"}, "rate"),
        (f"/_/accounts/{LABEL}", {"account_sid": "AC" + "1" * 32}, "renamed"),
        ("/_/accounts/twilio/nobody", {}, "webhook/demo"),
        ("/_/accounts/twilio", [], "object"),
    ],
)
async def test_wrong_control_input_is_one_clear_line(
    client: Client, path: str, document: Any, says: str
) -> None:
    answer = await client.send(put(path, document))
    assert answer.status == 400
    assert says in answer.body.decode()
    assert answer.body.count(b"\n") == 1
    assert (await client.sms()).status == 201


@pytest.mark.parametrize("query", ["from=x", "from=-1", "from=", "to=1", "from=1&to=2"])
async def test_a_wrong_query_is_one_clear_line(client: Client, query: str) -> None:
    answer = await client.get(f"/_/journal?{query}")
    assert (answer.status, answer.body.count(b"\n")) == (400, 1)


async def test_health_and_unknown_paths(simulator: Simulator, client: Client) -> None:
    assert (await client.get("/healthz")).body == b"ok\n"
    assert (await client.get("/_/nothing")).status == 404
    assert (await client.send(request("POST", "/_/faults"))).status == 404
    assert (await client.get("/")).status == 404
    assert simulator.counts.requests == 0
