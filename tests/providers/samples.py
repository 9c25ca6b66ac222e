"""What providers are given in these tests, and what they are answered."""

from __future__ import annotations

import json
from typing import Any, cast

from dispatcher.exchange import BatchProvider, HttpAnswer, Outgoing, Provider
from dispatcher.messages import Content, Envelope
from dispatcher.providers import create
from dispatcher.settings import ProviderConfig
from dispatcher.toml import Secret

BATCH = "01JD0000000000K3F9Q2M7ZX4B"
SID = "AC" + "0" * 32
TEMPLATE = "d-" + "0" * 32


def provider(kind: str, base_url: str | None = None, **settings: Any) -> Provider:
    usual: dict[str, dict[str, Any]] = {
        "twilio": {"account_sid": SID, "auth_token": Secret("secret")},
        "webhook": {"url": "https://shop.example/in"},
        "sendgrid": {"api_key": Secret("SG.key")},
    }
    chosen = {**usual.get(kind, {}), **settings}
    return create("p", ProviderConfig(kind=kind, base_url=base_url, settings=chosen))


def batched(kind: str, base_url: str | None = None, **settings: Any) -> BatchProvider:
    return cast(BatchProvider, provider(kind, base_url, **settings))


def envelope(
    channel: str = "sms", columns: tuple[str, ...] = (), batch: str = BATCH, **content: Any
) -> Envelope:
    return Envelope(batch, "", channel, "normal", "shop", 0, 0, Content(**content), columns=columns)


def outgoing(number: int = 0, **changes: Any) -> Outgoing:
    usual: dict[str, Any] = {"to": "+4915111111111", "sender": "+4915550006", "text": "Hi"}
    given = {"values": (), "ref": None, **usual, **changes}
    text = given.pop("text")
    return Outgoing(f"{BATCH}-{number}", render=lambda _: text, **given)


def answer(status: int, body: Any = None, **headers: str) -> HttpAnswer:
    """`body` is sent as JSON, bytes as they are."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return HttpAnswer(status, {name.replace("_", "-"): v for name, v in headers.items()}, raw)
