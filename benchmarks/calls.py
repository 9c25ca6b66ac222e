"""Prepared calls of the HTTP API: whole requests as bytes."""

from __future__ import annotations

import msgspec

from benchmarks.processes import Api
from benchmarks.scenarios import TEXT
from dispatcher.exchange import HttpRequest
from dispatcher.transport.request import Target

HEADERS = {"Content-Type": "application/json"}


def body(recipients: int, class_: str = "bulk", text: str = TEXT) -> bytes:
    """The body of `POST /v1/messages` for this many recipients."""
    return msgspec.json.encode(
        {
            "channel": "sms",
            "from": "+15005550006",
            "class": class_,
            "content": {"text": text},
            "recipients": [
                {"to": f"+49151{index:08d}", "params": {"name": "Anna", "code": f"{index:06d}"}}
                for index in range(recipients)
            ],
        }
    )


def wire(api: Api, recipients: int) -> bytes:
    """The whole call."""
    request = HttpRequest("POST", api.url, HEADERS, body(recipients), 30.0)
    return Target(request.url).encode(request)
