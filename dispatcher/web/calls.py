"""A call as its handler sees it, and what the handler gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from dispatcher.bodies import JSON, MSGPACK

MSGPACK_NAMES = (MSGPACK, "application/x-msgpack", "application/vnd.msgpack")
_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    JSON: msgspec.json.Encoder().encode,
    MSGPACK: msgspec.msgpack.Encoder().encode,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `arguments` are the parts of its path that are named in the route."""

    tenant: str
    arguments: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


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
