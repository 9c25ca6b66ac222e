"""Kind `webhook`: the single shape, the batch shape, and what answers mean for each message."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from dispatcher.errors import (
    ConfigError,
    ContentRejected,
    InvalidMessage,
    Permanent,
    ProviderDown,
    SendError,
    Throttled,
    Transient,
    Unsent,
)
from dispatcher.exchange import Accepted
from dispatcher.messages import Content
from dispatcher.toml import Secret
from tests.providers.samples import BATCH, answer, batched, envelope, outgoing, provider

MESSAGE = {
    "id": f"{BATCH}-0",
    "channel": "sms",
    "from": "+4915550006",
    "to": "+4915111111111",
    "text": "Hi",
}


@pytest.mark.parametrize(
    ("content", "changes", "expected"),
    [
        ({}, {}, {}),
        ({"subject": "s"}, {"ref": "order-7"}, {"subject": "s", "ref": "order-7"}),
        ({"subject": "{{{a}}}"}, {"values": ("x",)}, {"subject": "{x}"}),
        ({}, {"text": "ü€\n"}, {"text": "ü€\n"}),
    ],
)
def test_one_message(
    content: dict[str, Any], changes: dict[str, Any], expected: dict[str, str]
) -> None:
    compose = provider("webhook").compose(envelope(columns=("a",), text="Hi", **content))
    request = compose(outgoing(**changes))
    assert (request.method, request.url, request.timeout) == ("POST", "https://shop.example/in", 30)
    assert request.headers == {"Content-Type": "application/json", "Idempotency-Key": f"{BATCH}-0"}
    assert json.loads(request.body) == {**MESSAGE, **expected}


def test_a_batch() -> None:
    compose = batched("webhook", batch=3).compose_batch(envelope(text="Hi"))
    request = compose([outgoing(0), outgoing(1, ref="r")])
    second = {**MESSAGE, "id": f"{BATCH}-1", "ref": "r"}
    assert json.loads(request.body) == {"messages": [MESSAGE, second]}
    ids = f"{BATCH}-0\n{BATCH}-1".encode()
    assert request.headers["Idempotency-Key"] == hashlib.sha256(ids).hexdigest()


def test_the_key_of_a_batch_is_that_of_its_ids_in_order() -> None:
    compose = batched("webhook", batch=3).compose_batch(envelope(text="Hi"))

    def key(*numbers: int, text: str = "Hi") -> str:
        return compose([outgoing(n, text=text) for n in numbers]).headers["Idempotency-Key"]

    assert key(0, 1) == key(0, 1, text="another")
    assert len({key(0, 1), key(1, 0), key(0), key(1), key(0, 1, 2)}) == 5


def test_the_token() -> None:
    hook = batched("webhook", token=Secret("t"), batch=2)
    single = hook.compose(envelope(text="Hi"))(outgoing())
    several = hook.compose_batch(envelope(text="Hi"))([outgoing()])
    assert single.headers["Authorization"] == several.headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"id": "x"}, Accepted("x")),
        (202, {"id": 7}, Accepted("7")),
        (204, None, Accepted()),
        (200, b"\xff", Accepted()),
    ],
)
def test_accepted(status: int, body: Any, expected: Accepted) -> None:
    assert provider("webhook").read(answer(status, body)) == expected


REFUSALS = [
    (400, {"error": "bad", "code": "b1"}, Permanent, "b1"),
    (404, None, Permanent, "404"),
    (422, b"<html>", Permanent, "422"),
    (401, None, ProviderDown, "401"),
    (403, None, ProviderDown, "403"),
    (302, None, ProviderDown, "302"),
    (408, None, Transient, "408"),
    (429, None, Throttled, "429"),
    (500, None, Transient, "500"),
    (503, {"error": "down"}, Transient, "503"),
]


@pytest.mark.parametrize(("status", "body", "kind", "code"), REFUSALS)
def test_refusals(status: int, body: Any, kind: type[SendError], code: str) -> None:
    hook = batched("webhook", batch=3)
    whole = answer(status, body, retry_after="4")
    verdicts = [hook.read(whole), *hook.read_batch(whole, 3)]
    assert len(verdicts) == 4
    for verdict in verdicts:
        assert type(verdict) is kind
        assert verdict.code == code
    if kind is not Permanent and kind is not ProviderDown:
        assert isinstance(verdicts[3], SendError) and verdicts[3].retry_after == 4.0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"results": [{"id": "a"}, {"error": "gone"}, {"id": 3}]}, ["a", "!gone", "3"]),
        ({"results": [{"error": "gone", "id": "a"}]}, ["!gone", None, None]),
        ({"results": [{}, None, 5]}, [None, None, None]),
        ({"results": [{"id": str(n)} for n in range(5)]}, ["0", "1", "2"]),
        ({"results": []}, [None, None, None]),
        ({"results": "all"}, [None, None, None]),
        ({"id": "x"}, [None, None, None]),
        (None, [None, None, None]),
        (b"\xff", [None, None, None]),
    ],
)
def test_results(body: Any, expected: list[str | None]) -> None:
    found: list[str | None] = []
    for verdict in batched("webhook", batch=3).read_batch(answer(202, body), 3):
        if isinstance(verdict, Accepted):
            found.append(verdict.provider_id)
        else:
            assert type(verdict) is Permanent
            found.append("!" + verdict.code)
    assert found == expected


def test_a_batch_that_is_too_large() -> None:
    hook = batched("webhook", batch=3)
    several, (single,) = hook.read_batch(answer(413), 2), hook.read_batch(answer(413), 1)
    assert [type(one) for one in several] == [Unsent, Unsent]
    assert type(single) is ContentRejected


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"template": "t"}, "unsupported_content"),
        ({"text": "t", "html": "h"}, "unsupported_content"),
        ({"text": "t", "media": ("u",)}, "unsupported_content"),
        ({"text": "t", "reply_to": "a@b.de"}, "unsupported_content"),
        ({"text": "t", "headers": {"A": "b"}}, "unsupported_content"),
        ({"text": "t", "subject": "{"}, "invalid_template"),
    ],
)
def test_refused_content(content: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        provider("webhook").check("sms", Content(**content))
    assert caught.value.code == code


def test_text_and_subject_are_carried() -> None:
    provider("webhook").check("email", Content(text="t", subject="{s}"))


def test_settings() -> None:
    assert (provider("webhook").batch, provider("webhook", batch=500).batch) == (1, 500)
    with pytest.raises(ConfigError, match="batch must be an integer of at least 1, got 0"):
        provider("webhook", batch=0)
    with pytest.raises(ConfigError, match="url must start with"):
        provider("webhook", url="shop.example")
