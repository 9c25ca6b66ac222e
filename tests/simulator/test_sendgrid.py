"""The fake mail/send: what it takes, what it refuses and which field it names."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from dispatcher.simulator import Refuse, SendGridAccount, Settings, Simulator
from tests.simulator.clients import Client, request

KEY = "SG." + "0" * 32
LABEL = "sendgrid/demo"
TEMPLATE = "d-" + "0" * 32


def person(number: int = 0, /, **changes: Any) -> dict[str, Any]:
    """A good personalization; None leaves a field out."""
    usual = {
        "to": [{"email": f"u{number}@example.org"}],
        "custom_args": {"message_id": f"b-{number}"},
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def mail(*people: Any, **changes: Any) -> dict[str, Any]:
    """A good mail; None leaves a field out."""
    usual = {
        "personalizations": list(people) or [person()],
        "from": {"email": "shop@example.com", "name": "Shop"},
        "subject": "S",
        "content": [{"type": "text/plain", "value": "Hi"}],
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def post(body: Any, **headers: str) -> bytes:
    given = {"Authorization": f"Bearer {KEY}", "Content_Type": "application/json", **headers}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request("POST", "/v3/mail/send", raw, **given)


def text_hash(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()[:12]


async def test_one_entry_per_personalization(simulator: Simulator, client: Client) -> None:
    content = [
        {"type": "text/plain", "value": "Dear -t-, -t-"},
        {"type": "text/html", "value": "<b>-h-</b>"},
    ]
    people = [
        person(0, substitutions={"-t-": "A&B", "-h-": "A&amp;B", "-s-": "1"}),
        person(1, substitutions={"-t-": "Bob", "-h-": "-t-", "-s-": "2"}),
        person(
            2,
            subject="Own",
            substitutions={"-h-": "-t-", "-t-": "Ann"},
            **{"from": {"email": "other@example.com"}},
        ),
    ]
    answer = await client.send(post(mail(*people, subject="No. -s-", content=content)))
    assert (answer.status, answer.body) == (202, b"")
    entries = list(simulator.journal.entries())
    assert [one.text for one in entries] == [
        text_hash("No. 1\nDear A&B, A&B\n<b>A&amp;B</b>"),
        text_hash("No. 2\nDear Bob, Bob\n<b>-t-</b>"),
        text_hash("Own\nDear Ann, Ann\n<b>Ann</b>"),
    ]
    assert [one.to for one in entries] == [f"u{n}@example.org" for n in range(3)]
    assert [one.message for one in entries] == ["b-0", "b-1", "b-2"]
    own = answer.headers["x-message-id"]
    assert own and [one.id for one in entries] == [f"{own}.{n}" for n in range(3)]
    assert {(one.event, one.account) for one in entries} == {("accepted", LABEL)}
    senders = [one.sender for one in entries]
    assert senders == ["shop@example.com", "shop@example.com", "other@example.com"]
    assert (simulator.counts.requests, simulator.counts.accepted) == (1, 3)


async def test_a_dynamic_template(simulator: Simulator, client: Client) -> None:
    one = person(dynamic_template_data={"b": "2", "a": "1"})
    answer = await client.send(post(mail(one, template_id=TEMPLATE, content=None, subject=None)))
    assert answer.status == 202
    (entry,) = simulator.journal.entries()
    assert entry.text == text_hash(f'{TEMPLATE}\n{{"a":"1","b":"2"}}')


GOOD: list[dict[str, Any]] = [
    mail(*(person(n) for n in range(1000))),
    mail(person(), person()),
    mail(person(substitutions={"-a-": "x" * 9997})),
    mail(person(substitutions={f"-{n}-": "" for n in range(100)})),
    mail(person(custom_args={"a": "x" * 9998})),
    mail(person(**{"from": {"email": "other@example.com"}})),
    mail(person(subject="Own"), subject=None),
    mail(content=[{"type": "text/html", "value": "Hi"}]),
    mail(reply_to={"email": "help@example.com"}, headers={"List-Unsubscribe": "<https://x>"}),
    mail(categories=["a"], tracking_settings={"open_tracking": {"enable": False}}),
]


@pytest.mark.parametrize("body", GOOD, ids=range(len(GOOD)))
async def test_what_is_taken(client: Client, body: dict[str, Any]) -> None:
    assert (await client.send(post(body))).status == 202


def parts(*types: str) -> list[dict[str, str]]:
    return [{"type": kind, "value": "x"} for kind in types]


BAD: list[tuple[Any, list[str | None]]] = [
    (b"{", [None]),
    (b'"mail"', [None]),
    (mail(personalizations=None), ["personalizations"]),
    (mail(personalizations=[]), ["personalizations"]),
    (mail(personalizations=[1]), ["personalizations.0"]),
    (mail(**{"from": None}), ["from"]),
    (mail(**{"from": "shop@example.com"}), ["from"]),
    (mail(**{"from": {"email": "shop"}}), ["from.email"]),
    (mail(**{"from": {"email": "a@b.de", "name": "Ä"}}), ["from.name"]),
    (mail(**{"from": {"email": "a@b.de", "name": "A, B"}}), ["from.name"]),
    (mail(subject=None), ["subject"]),
    (mail(person(subject="Own"), person(1), subject=None), ["subject"]),
    (mail(subject=7), ["subject"]),
    (mail(content=None), ["content"]),
    (mail(content=[]), ["content"]),
    (mail(content=[{"type": "text/plain", "value": ""}]), ["content.0.value"]),
    (mail(content=parts("text/html", "text/plain")), ["content"]),
    (mail(content=parts("text/calendar", "text/plain")), ["content"]),
    (mail(content=parts("text/plain", "text/plain")), ["content"]),
    (mail(colour="red"), ["colour"]),
    (mail(headers={"reply-to": "a@b.de"}), ["headers"]),
    (mail(headers={"X A": "b"}), ["headers"]),
    (mail(reply_to={"email": "help"}), ["reply_to.email"]),
    (mail(person(to=None)), ["personalizations.0.to"]),
    (mail(person(to=[])), ["personalizations.0.to"]),
    (mail(person(to={"email": "a@b.de"})), ["personalizations.0.to"]),
    (mail(person(to=[{"email": "a@b.de", "phone": "1"}])), ["personalizations.0.to"]),
    (mail(person(), person(to=[{"email": "a..b@c.de"}])), ["personalizations.1.to.0.email"]),
    (mail(person(to=[{"email": "ü@c.de"}])), ["personalizations.0.to.0.email"]),
    (mail(person(to=[{"email": "a@c"}])), ["personalizations.0.to.0.email"]),
    (mail(person(to=[{"email": "a b@c.de"}])), ["personalizations.0.to.0.email"]),
    (mail(person(to=[{"email": "a@b.de", "name": "A; B"}])), ["personalizations.0.to.0.name"]),
    (mail(person(to=[{"email": "a@b.de"}, {"email": "A@b.de"}])), ["personalizations.0"]),
    (mail(person(cc=[{"email": "u0@example.org"}])), ["personalizations.0"]),
    (mail(person(headers={"To": "x"})), ["personalizations.0.headers"]),
    (mail(person(substitutions={"-a-": 1})), ["personalizations.0.substitutions"]),
    (mail(person(substitutions={"-a-": "x" * 9998})), ["personalizations.0.substitutions"]),
    (mail(person(substitutions={f"-{n}-": "" for n in range(101)})),
     ["personalizations.0.substitutions"]),
    (mail(person(substitutions={"-a-": "x"}), template_id=TEMPLATE),
     ["personalizations.0.substitutions"]),
    (mail(person(custom_args={"a": "x" * 9999})), ["personalizations.0.custom_args"]),
    (mail(person(custom_args={"a": "x" * 9000}), custom_args={"b": "x" * 999}),
     ["personalizations.0.custom_args"]),
    (mail(person(custom_args={"a": 1})), ["personalizations.0.custom_args"]),
    (mail(person(colour="red")), ["personalizations.0.colour"]),
    (mail(person(**{"from": {"email": "a@example.net"}})), ["personalizations.0.from"]),
    (mail(*(person(n) for n in range(1001))), ["personalizations", "personalizations"]),
    (mail(person(to=[{"email": f"a{n}@b.de"} for n in range(1001)])), ["personalizations"]),
    (mail(person(to=[{"email": "a"}]), person(1), person(to=[{"email": "b"}])),
     ["personalizations.0.to.0.email", "personalizations.2.to.0.email"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "fields"), BAD, ids=range(len(BAD)))
async def test_what_is_refused(
    simulator: Simulator, client: Client, body: Any, fields: list[str | None]
) -> None:
    answer = await client.send(post(body))
    assert answer.status == 400
    assert [one["field"] for one in answer.json["errors"]] == fields
    assert all(one["message"] and one["help"] for one in answer.json["errors"])
    assert simulator.counts.accepted == 0
    assert simulator.counts.refused == {"400": len(set(fields))}


async def test_one_bad_recipient_refuses_the_whole_request(
    simulator: Simulator, client: Client
) -> None:
    simulator.change_account(LABEL, rejects=["u3@"])
    answer = await client.send(post(mail(*(person(n) for n in range(5)))))
    assert [one["field"] for one in answer.json["errors"]] == ["personalizations.3.to.0.email"]
    assert simulator.counts.accepted == 0


async def test_the_journal_names_the_addresses_at_fault(
    simulator: Simulator, client: Client
) -> None:
    people = [
        person(0),
        person(1, to=[{"email": "a@b.de"}, {"email": "x"}], cc=[{"email": "y", "name": "Y, Z"}]),
        person(2, to=[]),
        person(3, subject="Own", custom_args={"message_id": "b-3", "a": "x" * 9999}),
    ]
    await client.send(post(mail(*people)))
    entries = list(simulator.journal.entries())
    assert [(one.to, one.message) for one in entries] == [
        ("x", "b-1"), ("y", "b-1"), ("", "b-2"), ("u3@example.org", "b-3")
    ]  # fmt: skip
    assert {(one.event, one.code) for one in entries} == {("refused", "400")}
    assert entries[3].text == text_hash("Own\nHi")


async def test_a_fault_of_the_whole_request_names_nobody(
    simulator: Simulator, client: Client
) -> None:
    await client.send(post(mail(person(0), person(1), content=[])))
    (entry,) = simulator.journal.entries()
    assert (entry.event, entry.to, entry.message) == ("refused", "", "")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (post(mail(), Authorization=""), 401),
        (post(mail(), Authorization="Bearer SG.wrong"), 401),
        (post(mail(), Authorization=f"Basic {KEY}"), 401),
        (post(mail(), Content_Type="text/plain"), 415),
        (request("GET", "/v3/mail/send", Authorization=f"Bearer {KEY}"), 405),
        (request("POST", "/v3/mail", b"{}"), 404),
    ],
)
async def test_other_refusals(
    simulator: Simulator, client: Client, raw: bytes, status: int
) -> None:
    answer = await client.send(raw)
    assert answer.status == status
    assert answer.json["errors"][0]["field"] is None
    assert simulator.counts.refused == {str(status): 1}


async def test_suspension(simulator: Simulator, client: Client) -> None:
    simulator.change_account(LABEL, suspended=True)
    assert (await client.send(post(mail()))).status == 403


async def test_a_request_that_is_too_large(simulator: Simulator, client: Client) -> None:
    size = len(json.dumps(mail()))
    for most, status in ((size, 413), (size + 1, 202)):
        simulator.change_account(LABEL, max_bytes=most)
        assert (await client.send(post(mail()))).status == status


@pytest.mark.parametrize(
    "limit", [{"window_requests": 2, "window": 600}, {"rate": 0.01, "burst": 2}]
)
async def test_above_a_limit(simulator: Simulator, client: Client, limit: dict[str, Any]) -> None:
    simulator.change_account(LABEL, **limit)
    answers = [await client.send(post(mail())) for _ in range(3)]
    assert [one.status for one in answers] == [202, 202, 429]
    assert "x-ratelimit-reset" not in answers[0].headers
    headers = answers[2].headers
    assert headers["x-ratelimit-remaining"] == "0"
    assert headers["x-ratelimit-limit"] == str(limit.get("window_requests", 1))
    ahead = int(headers["x-ratelimit-reset"]) - parsedate(headers["date"])
    assert 0 < ahead <= 601
    assert answers[2].json["errors"][0]["message"] == "too many requests"


def parsedate(text: str) -> float:
    return parsedate_to_datetime(text).timestamp()


async def test_a_window_ends(
    simulator: Simulator, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.change_account(LABEL, window_requests=1, window=600)
    assert (await client.send(post(mail()))).status == 202
    assert (await client.send(post(mail()))).status == 429
    later = time.time() + 601
    monkeypatch.setattr(time, "time", lambda: later)
    assert (await client.send(post(mail()))).status == 202


@pytest.mark.parametrize(
    ("fault", "status", "field"),
    [
        (Refuse(code="personalizations.3.to.0.email"), 400, "personalizations.3.to.0.email"),
        (Refuse(status=400), 400, None),
        (Refuse(status=503), 503, None),
        (Refuse(code="413"), 400, None),
        (Refuse(status=429, retry_after=20), 429, None),
    ],
)
async def test_ordered_refusals(
    simulator: Simulator, client: Client, fault: Refuse, status: int, field: str | None
) -> None:
    simulator.set_faults([fault])
    answer = await client.send(post(mail()))
    assert (answer.status, answer.json["errors"][0]["field"]) == (status, field)
    assert ("x-ratelimit-reset" in answer.headers) == (status == 429)
    assert simulator.counts.accepted == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda: SendGridAccount(api_key=""),
        lambda: SendGridAccount(window=0),
        lambda: SendGridAccount(window_requests=0),
        lambda: Settings((SendGridAccount(), SendGridAccount(api_key="SG.b"))),
    ],
)
def test_settings_out_of_range(change: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        change()
