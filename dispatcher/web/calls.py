"""A call as its handler sees it, and what the handler gives back."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from dispatcher.bodies import JSON, MSGPACK
from dispatcher.messages import new_ulid
from dispatcher.store.operations import Action
from dispatcher.web.problems import Problem, invalid

Body = TypeVar("Body")

MSGPACK_NAMES = (MSGPACK, "application/x-msgpack", "application/vnd.msgpack")
_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    JSON: msgspec.json.Encoder().encode,
    MSGPACK: msgspec.msgpack.Encoder().encode,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `arguments` are the parts of its path that are named in the route, `query` what
    follows it. `tenant` or `operator` is who calls."""

    tenant: str
    arguments: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    operator: str = ""
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A result; `value` is encoded as the caller accepts it, `text` goes out as it is."""

    value: Any = None
    status: int = 200
    text: tuple[str, bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self, accept: str) -> tuple[str, bytes]:
        """Content type and body."""
        if self.text is not None:
            return self.text
        wanted = preferred(accept)
        return wanted, _ENCODERS[wanted](self.value)


Handler: TypeAlias = Callable[[Call], Awaitable[Answer]]


def preferred(accept: str) -> str:
    """MessagePack where it is named before any JSON, else JSON."""
    for item in accept.lower().split(","):
        name = item.partition(";")[0].strip()
        if name in MSGPACK_NAMES:
            return MSGPACK
        if name == JSON:
            return JSON
    return JSON


def acting(call: Call, what: str, on: str, detail: str = "", reason: str = "") -> Action:
    """What the operator who calls is about to do."""
    return Action(new_ulid(time.time_ns() // 1_000_000), call.operator, what, on, detail, reason)


class Reader(Generic[Body]):
    """Reads bodies of one type, as JSON or MessagePack."""

    def __init__(self, body: type[Body]) -> None:
        read = msgspec.msgpack.Decoder(body).decode
        self._decoders: dict[str, Callable[[bytes], Body]] = {
            JSON: msgspec.json.Decoder(body).decode,
            **dict.fromkeys(MSGPACK_NAMES, read),
        }

    def __call__(self, call: Call) -> Body:
        """Raises Problem 400, 415, 422."""
        kind = call.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        decode = self._decoders.get(kind)
        if decode is None:
            allowed = " or ".join(self._decoders)
            raise Problem(415, "unsupported_type", f"Content-Type must be {allowed}")
        try:
            return decode(call.body)
        except msgspec.ValidationError as error:
            raise invalid("invalid_field", str(error)) from None
        except (ValueError, RecursionError) as error:
            raise Problem(400, "malformed_body", f"the body cannot be read: {error}") from None
