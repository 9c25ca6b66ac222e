"""Kind `sendgrid`: personalizations, substitutions, and what an answer means for each message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.errors import (
    ConfigError,
    ContentRejected,
    InvalidMessage,
    InvalidRecipient,
    OutcomeUnknown,
    Permanent,
    ProviderDown,
    SendError,
    Throttled,
    Transient,
    Unsent,
)
from dispatcher.exchange import Accepted, HttpRequest, Outgoing
from dispatcher.messages import Content
from tests.providers.samples import BATCH, TEMPLATE, answer, batched, envelope, outgoing

DATE = "Fri, 26 Sep 2025 16:24:27 GMT"
DATE_SECONDS = 1_758_903_867


def mail(number: int = 0, *values: str | None, **changes: Any) -> Outgoing:
    usual: dict[str, Any] = {"to": f"u{number}@example.org", "sender": "shop@example.com"}
    return outgoing(number, **{**usual, "text": "", "values": values, **changes})


def compose(
    *messages: Outgoing, columns: tuple[str, ...] = (), batch: str = BATCH, **content: Any
) -> HttpRequest:
    usual = {"text": "Hi", "subject": "S"} if "template" not in content else {}
    label = envelope("email", columns, batch, **{**usual, **content})
    return batched("sendgrid").compose_batch(label)(messages)


def body(request: HttpRequest) -> Any:
    return json.loads(request.body)


def delivered(document: Any, number: int) -> list[str]:
    """Subject and contents as the recipient gets them: every tag replaced, over and over."""
    texts = [document["subject"], *(part["value"] for part in document["content"])]
    tags = document["personalizations"][number].get("substitutions", {})
    for _ in range(3):
        for tag, value in tags.items():
            texts = [text.replace(tag, value) for text in texts]
    return texts


def test_the_smallest_request() -> None:
    request = compose(mail())
    assert (request.method, request.url) == ("POST", "https://api.sendgrid.com/v3/mail/send")
    assert request.headers == {
        "Authorization": "Bearer SG.key",
        "Content-Type": "application/json",
    }
    assert body(request) == {
        "personalizations": [
            {
                "to": [{"email": "u0@example.org"}],
                "custom_args": {"message_id": f"{BATCH}-0"},
            }
        ],
        "from": {"email": "shop@example.com"},
        "subject": "S",
        "content": [{"type": "text/plain", "value": "Hi"}],
    }


def test_everything_an_e_mail_has() -> None:
    found = body(
        compose(
            mail(ref="order-7", sender="The Shop <shop@example.com>"),
            html="<b>Hi</b>",
            reply_to="Help <help@example.com>",
            headers={"List-Unsubscribe": "<https://x.example>"},
        )
    )
    assert found["from"] == {"email": "shop@example.com", "name": "The Shop"}
    assert found["reply_to"] == {"email": "help@example.com", "name": "Help"}
    assert found["headers"] == {"List-Unsubscribe": "<https://x.example>"}
    assert [part["type"] for part in found["content"]] == ["text/plain", "text/html"]
    (one,) = found["personalizations"]
    assert one["custom_args"] == {"message_id": f"{BATCH}-0", "ref": "order-7"}


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("a@b.de", {"email": "a@b.de"}),
        ("<a@b.de>", {"email": "a@b.de"}),
        ("A B <a@b.de>", {"email": "a@b.de", "name": "A B"}),
        (' "A B" < a@b.de > ', {"email": "a@b.de", "name": "A B"}),
    ],
)
def test_senders(sender: str, expected: dict[str, str]) -> None:
    assert body(compose(mail(sender=sender)))["from"] == expected


def test_another_sender_stands_with_its_message() -> None:
    found = body(compose(mail(0), mail(1, sender="B <b@example.com>"), mail(2)))
    assert found["from"] == {"email": "shop@example.com"}
    senders = [one.get("from") for one in found["personalizations"]]
    assert senders == [None, {"email": "b@example.com", "name": "B"}, None]


@pytest.mark.parametrize(
    ("content", "columns", "values", "expected"),
    [
        ({"text": "Hi {a}"}, ("a",), ("Ann",), ["S", "Hi Ann"]),
        ({"text": "{b}{a}{b}"}, ("a", "b"), ("1", "2"), ["S", "212"]),
        ({"text": "{a}", "html": "<b>{a}</b>"}, ("a",), ("<&'\">",),
         ["S", "<&'\">", "<b>&lt;&amp;&#x27;&quot;&gt;</b>"]),
        ({"subject": "For {a}"}, ("a",), ("A & B\r\nBcc: x",), ["For A & B Bcc: x", "Hi"]),
        ({"text": "{{a}} {a}}}{{"}, ("a",), ("x",), ["S", "{a} x}{"]),
        ({"text": "{a}"}, ("a",), ("",), ["S", ""]),
        ({"text": "", "html": "{a}"}, ("a",), ("x",), ["S", "x"]),
        ({"text": "{a}{b}"}, ("a", "b"), ("{b}", "-{a}-"), ["S", "{b}-{a}-"]),
        ({"text": " ".join(f"{{p{n}}}" for n in range(12))}, tuple(f"p{n}" for n in range(12)),
         tuple(f"<{n}>" for n in range(12)), ["S", " ".join(f"<{n}>" for n in range(12))]),
    ],
)  # fmt: skip
def test_what_the_recipient_gets(
    content: dict[str, str], columns: tuple[str, ...], values: tuple[str, ...], expected: list[str]
) -> None:
    assert delivered(body(compose(mail(0, *values), columns=columns, **content)), 0) == expected


def test_texts_are_sent_once_and_only_what_they_use() -> None:
    texts = {"text": "Dear {a}, " + "x" * 500, "subject": "S {a}"}
    request = compose(mail(0, "Ann", "1"), mail(1, "Bob", "2"), columns=("a", "unused"), **texts)
    found = body(request)
    assert request.body.count(b"x" * 500) == 1
    assert [delivered(found, n)[0] for n in (0, 1)] == ["S Ann", "S Bob"]
    assert [len(one["substitutions"]) for one in found["personalizations"]] == [2, 2]


def test_tags_of_one_batch_cannot_be_known_from_another() -> None:
    """A value that holds a tag would be filled in by SendGrid once more."""
    batches = (BATCH, BATCH[:16] + "ABCDEFGHJK")
    first, second = (
        body(compose(mail(0, "x"), columns=("a",), text="{a}", batch=batch)) for batch in batches
    )
    tags = [set(one["personalizations"][0]["substitutions"]) for one in (first, second)]
    assert tags[0].isdisjoint(tags[1])


def test_a_missing_parameter() -> None:
    with pytest.raises(InvalidMessage, match='parameter "b" has no value'):
        compose(mail(0, "x"), columns=("a",), html="{b}")
    with pytest.raises(InvalidMessage, match='parameter "b" has no value'):
        compose(mail(0, "x", None), columns=("a", "b"), html="{a}{b}")


def test_a_dynamic_template() -> None:
    people = (mail(0, "Ann", "7"), mail(1, "Bob", None))
    found = body(compose(*people, columns=("name", "order"), template=TEMPLATE))
    assert found["template_id"] == TEMPLATE
    assert "content" not in found and "subject" not in found
    data = [one["dynamic_template_data"] for one in found["personalizations"]]
    assert data == [{"name": "Ann", "order": "7"}, {"name": "Bob"}]
    assert "substitutions" not in found["personalizations"][0]


def test_a_request_of_one() -> None:
    label = envelope("email", text="Hi", subject="S")
    grid = batched("sendgrid", "https://api.eu.sendgrid.com/", batch=1)
    assert grid.compose(label)(mail()) == grid.compose_batch(label)([mail()])
    assert grid.compose(label)(mail()).url == "https://api.eu.sendgrid.com/v3/mail/send"
    assert grid.read(answer(202, None, x_message_id="own")) == Accepted("own")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (200, OutcomeUnknown, "garbage"),
        (204, OutcomeUnknown, "garbage"),
        (301, ProviderDown, "301"),
        (400, ContentRejected, "400"),
        (401, ProviderDown, "401"),
        (403, ProviderDown, "403"),
        (404, ProviderDown, "404"),
        (405, Permanent, "405"),
        (408, Transient, "408"),
        (429, Throttled, "429"),
        (500, Transient, "500"),
        (503, Transient, "503"),
    ],
)
def test_answers_that_hold_for_all(
    status: int, kind: type[SendError], code: str, count: int
) -> None:
    for raw in (None, b"\xff", {"errors": [{"message": "so", "field": None}]}, {"errors": 3}):
        verdicts = batched("sendgrid").read_batch(answer(status, raw), count)
        assert [type(one) for one in verdicts] == [kind] * count
        assert {one.code for one in verdicts if isinstance(one, SendError)} == {code}


def test_accepted() -> None:
    grid = batched("sendgrid")
    assert grid.read_batch(answer(202, None, x_message_id="x"), 2) == [Accepted("x")] * 2
    assert grid.read_batch(answer(202), 1) == [Accepted(None)]


def test_too_large() -> None:
    grid = batched("sendgrid")
    assert [type(one) for one in grid.read_batch(answer(413), 2)] == [Unsent, Unsent]
    assert [type(one) for one in grid.read_batch(answer(413), 1)] == [ContentRejected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["personalizations.1.to.0.email"], "U R U"),
        (["personalizations.1.to"], "U R U"),
        (["personalizations.0.to.0.email", "personalizations.2.to.0.email"], "R U R"),
        (["personalizations.2.substitutions"], "U U C"),
        (["personalizations.2"], "U U C"),
        (["personalizations.0.custom_args", "personalizations.0.to"], "C U U"),
        (["personalizations.1.to.0.email", "from.email"], "C R C"),
        (["personalizations.10.to.0.email"], "C C C"),
        (["personalizations"], "C C C"),
        (["content.0.value"], "C C C"),
        ([None], "C C C"),
        ([], "C C C"),
    ],
)
def test_a_refusal_by_field(fields: list[str | None], expected: str) -> None:
    kinds = {"U": Unsent, "R": InvalidRecipient, "C": ContentRejected}
    errors = [{"field": field, "message": "bad"} for field in fields]
    verdicts = batched("sendgrid").read_batch(answer(400, {"errors": errors}), 3)
    assert [type(one) for one in verdicts] == [kinds[letter] for letter in expected.split()]


def test_unsent_messages_go_out_again_at_once_and_lose_no_attempt() -> None:
    errors = [{"field": "personalizations.0.to.0.email", "message": "Not valid."}]
    refused, other = batched("sendgrid").read_batch(answer(400, {"errors": errors}), 2)
    assert isinstance(refused, InvalidRecipient)
    assert refused.detail == "personalizations.0.to.0.email: Not valid."
    assert isinstance(other, Unsent)
    assert (other.retryable, other.uses_attempt, other.trips_breaker) == (True, False, False)
    assert other.retry_after == 0.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x_ratelimit_reset": str(DATE_SECONDS + 20), "date": DATE}, 20.0),
        ({"x_ratelimit_reset": str(DATE_SECONDS), "date": DATE}, 1.0),
        ({"x_ratelimit_reset": str(DATE_SECONDS - 99), "date": DATE}, 1.0),
        ({"x_ratelimit_reset": str(DATE_SECONDS + 20), "date": DATE, "retry_after": "3"}, 3.0),
        ({"x_ratelimit_reset": str(DATE_SECONDS + 20)}, None),
        ({"x_ratelimit_reset": str(DATE_SECONDS + 20), "date": "yesterday"}, None),
        ({"x_ratelimit_reset": "soon", "date": DATE}, None),
        ({"date": DATE}, None),
        ({}, None),
    ],
)
def test_the_time_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    (verdict,) = batched("sendgrid").read_batch(answer(429, None, **headers), 1)
    assert isinstance(verdict, Throttled)
    assert verdict.retry_after == seconds


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"text": "t"}, "missing_subject"),
        ({"text": "t", "subject": ""}, "missing_subject"),
        ({"subject": "s"}, "missing_content"),
        ({"text": "", "html": "", "subject": "s"}, "missing_content"),
        ({"text": "t", "subject": "s", "media": ("u",)}, "unsupported_content"),
        ({"text": "t", "subject": "s", "headers": {"Reply-To": "a@b.de"}}, "unsupported_content"),
        ({"text": "t", "subject": "{"}, "invalid_template"),
        ({"text": "t", "subject": "s", "html": "<style>a {b: c}</style>"}, "invalid_template"),
        ({"text": "x" * 4_000_001, "html": "é" * 2_000_000, "subject": "s"}, "text_too_long"),
        ({"text": "".join(f"{{p{n}}}" for n in range(60)), "subject": "s",
          "html": "".join(f"{{p{n}}}" for n in range(41))}, "too_many_parameters"),
        ({"template": "welcome"}, "unsupported_content"),
        ({"template": TEMPLATE, "subject": "s"}, "unsupported_content"),
        ({"template": TEMPLATE, "language": "de"}, "unsupported_content"),
    ],
)  # fmt: skip
def test_refused_content(content: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        batched("sendgrid").check("email", Content(**content))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "content",
    [
        {"text": "t", "subject": "s", "reply_to": "a@b.de", "headers": {"X-A": "b"}},
        {"html": "<p>{a}</p>", "subject": "s"},
        {"template": TEMPLATE, "reply_to": "a@b.de"},
    ],
)
def test_carried_content(content: dict[str, Any]) -> None:
    batched("sendgrid").check("email", Content(**content))


def test_settings() -> None:
    assert (batched("sendgrid").batch, batched("sendgrid", batch=7).batch) == (1000, 7)
    for batch in (0, 1001):
        with pytest.raises(ConfigError, match="batch must be an integer from 1 to 1000"):
            batched("sendgrid", batch=batch)
