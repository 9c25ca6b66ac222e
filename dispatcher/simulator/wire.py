"""What the simulator's HTTP server reads and writes: one request in, one reply out."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Request(NamedTuple):
    """One whole HTTP request. Header names are lower case; of a repeated header the last counts."""

    method: str
    path: str
    query: str
    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: bytes) -> str:
        """The value of the header `name` (lower case), "" where the request has none."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def media_type(self) -> str:
        """The Content-Type in lower case, without its parameters."""
        return self.header(b"content-type").partition(";")[0].strip().lower()


class Reply(NamedTuple):
    """One HTTP answer. `headers` come on top of Content-Type, Content-Length and Connection."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


def encode_head(reply: Reply, framing: str, close: bool) -> bytes:
    """The bytes before the body; `framing` is the header line that says where the body ends."""
    head = f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unknown')}\r\n"
    if reply.status != HTTPStatus.NO_CONTENT:
        head += f"Content-Type: {reply.content_type}\r\n{framing}"
    for name, value in reply.headers:
        head += f"{name}: {value}\r\n"
    if close:
        head += "Connection: close\r\n"
    return (head + "\r\n").encode("latin-1")


def encode(reply: Reply, close: bool) -> bytes:
    """The whole answer as bytes."""
    return encode_head(reply, f"Content-Length: {len(reply.body)}\r\n", close) + reply.body
