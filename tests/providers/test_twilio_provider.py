"""Kind `twilio`: what it asks for, and what every answer means."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs

import pytest

from dispatcher.errors import (
    ConfigError,
    ContentRejected,
    InvalidMessage,
    InvalidRecipient,
    OptedOut,
    OutcomeUnknown,
    Permanent,
    ProviderDown,
    SendError,
    Throttled,
    Transient,
    WindowClosed,
)
from dispatcher.exchange import Accepted
from dispatcher.messages import Content
from dispatcher.providers.twilio import ERRORS
from tests.providers.samples import BATCH, SID, answer, envelope, outgoing, provider

CLASSES: dict[type[SendError], str] = {
    Throttled: "20429 21611 30001 30022 63017 63018 63119 14107 30023 30027 63038",
    Transient: "20500 20503 30008 30017 30410 63009 63010 63012 30020 30021",
    InvalidRecipient: "21211 21614 21612 21219 21608 30004 30005 30006 63003 63014 63024 63033"
    " 30011 63036",
    OptedOut: "21610",
    ContentRejected: "21617 21602 21620 21623 21654 21655 21656 30007 30012 30013 30014 30015"
    " 30019 63005 63006 63013 63021 63027 63028 63029 63032 63041 63049",
    WindowClosed: "63016",
    Permanent: "21408 21603 21606",
    ProviderDown: "20003 20005 20404 30002 21701 21702 21703 21704 21705 30018 30024 30032 30034"
    " 63001 63002 63007 63008 63020 63026 63035 63039",
}


@pytest.mark.parametrize(
    ("code", "kind"), [(int(one), kind) for kind, codes in CLASSES.items() for one in codes.split()]
)
def test_a_code_has_its_class(code: int, kind: type[SendError]) -> None:
    verdict = provider("twilio").read(answer(400, {"code": code, "message": "as it is"}))
    assert type(verdict) is kind
    assert (verdict.code, verdict.detail) == (str(code), "as it is")


def test_every_classified_code_is_an_error_code_of_five_digits() -> None:
    assert [code for code in ERRORS if not 10_000 <= code <= 99_999] == []


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"code": 99999, "message": "new"}, Permanent, "99999"),
        (400, b"<html>", Permanent, "400"),
        (400, {"code": "21610"}, Permanent, "21610"),
        (401, None, ProviderDown, "401"),
        (403, None, ProviderDown, "403"),
        (404, {"code": 20404}, ProviderDown, "20404"),
        (404, b"<html>", ProviderDown, "404"),
        (408, None, Transient, "408"),
        (429, None, Throttled, "429"),
        (301, None, ProviderDown, "301"),
        (500, {"code": 21610}, Transient, "21610"),
        (503, b"\xff", Transient, "503"),
        (200, {"hello": 1}, OutcomeUnknown, "garbage"),
        (200, b"[]", OutcomeUnknown, "garbage"),
    ],
)
def test_other_answers(status: int, body: Any, kind: type[SendError], code: str) -> None:
    verdict = provider("twilio").read(answer(status, body))
    assert type(verdict) is kind
    assert verdict.code == code


@pytest.mark.parametrize(
    ("status", "body", "own"),
    [(201, {"sid": "SM1"}, "SM1"), (200, {"sid": "SM1"}, "SM1"), (201, b'{"si', None)],
)
def test_accepted(status: int, body: Any, own: str | None) -> None:
    assert provider("twilio").read(answer(status, body)) == Accepted(own)


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), (" 7 ", 7.0), ("", None), ("soon", None), ("-1", None)]
)
def test_the_time_to_wait(header: str, seconds: float | None) -> None:
    for body in ({"code": 20429}, None):
        verdict = provider("twilio").read(answer(429, body, retry_after=header))
        assert isinstance(verdict, Throttled)
        assert verdict.retry_after == seconds


def test_details_are_one_bounded_line() -> None:
    verdict = provider("twilio").read(answer(400, {"code": 21617, "message": "a\nb " * 200}))
    assert isinstance(verdict, ContentRejected)
    assert verdict.detail.startswith("a b a b")
    assert len(verdict.detail) == 200


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"From": "+4915550006", "Body": "Hi"}),
        ({"sender": "MG" + "0" * 32}, {"MessagingServiceSid": "MG" + "0" * 32, "Body": "Hi"}),
        ({"sender": "My Shop"}, {"From": "My Shop", "Body": "Hi"}),
        ({"text": "1 + 1 = 2 & ü€🙂\n%"}, {"From": "+4915550006", "Body": "1 + 1 = 2 & ü€🙂\n%"}),
    ],
)
def test_a_request(changes: dict[str, Any], expected: dict[str, str]) -> None:
    request = provider("twilio").compose(envelope(text="Hi"))(outgoing(**changes))
    assert request.url == f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Messages.json"
    assert (request.method, request.timeout) == ("POST", 30.0)
    login = base64.b64encode(f"{SID}:secret".encode()).decode()
    assert request.headers["Authorization"] == f"Basic {login}"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    fields = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    assert fields == {"To": "+4915111111111", **expected}


@pytest.mark.parametrize(
    ("callback", "joint"), [("https://x.example/h", "?"), ("https://x.example/h?a=1", "&")]
)
def test_the_callback_ends_in_the_message_id(callback: str, joint: str) -> None:
    compose = provider("twilio", status_callback=callback).compose(envelope(text="Hi"))
    fields = parse_qs(compose(outgoing(3)).body.decode())
    assert fields["StatusCallback"] == [f"{callback}{joint}m={BATCH}-3"]


def test_base_url() -> None:
    compose = provider("twilio", "http://127.0.0.1:1/").compose(envelope(text="Hi"))
    assert compose(outgoing()).url.startswith("http://127.0.0.1:1/2010-04-01/")


@pytest.mark.parametrize(
    "content",
    [
        {"template": "t"},
        {"text": "t", "subject": "s"},
        {"text": "t", "html": "h"},
        {"text": "t", "media": ("https://x.example/a.png",)},
        {"text": "t", "reply_to": "a@b.de"},
        {"text": "t", "headers": {"A": "b"}},
    ],
)
def test_refused_content(content: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage) as caught:
        provider("twilio").check("sms", Content(**content))
    assert caught.value.code == "unsupported_content"


def test_text_is_carried() -> None:
    provider("twilio").check("sms", Content(text="t"))
    assert provider("twilio").batch == 1


def test_a_wrong_account() -> None:
    with pytest.raises(ConfigError, match='account_sid must be "AC" and 32'):
        provider("twilio", account_sid="AC1")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("twillio", "did you mean 'twilio'"),
        ("fax", "known: sendgrid, twilio, webhook"),
        ("dispatcher.nowhere:Fax", "No module named"),
        ("dispatcher.providers.twilio:Fax", "has no attribute"),
    ],
)
def test_an_unknown_kind(kind: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        provider(kind)
