"""From a request to the bytes that go on the wire."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from dispatcher import __version__
from dispatcher.exchange import HttpRequest

_PORTS = {"http": 80, "https": 443}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PATH = "/%:@!$&'()*+,;=~?"
_BODILESS = ("GET", "DELETE", "OPTIONS")
_OURS = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "expect"}
)
"""Framing is the business of the transport, whatever a request says about it."""


class Origin(NamedTuple):
    """Where connections go; requests of one origin share them."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Target:
    """One URL: its origin, and the head of requests to it. The head of the last request is kept,
    since all messages of a provider tend to share it.

    Raises ValueError for a URL that is none.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("the URL must start with http:// or https:// and name a host")
        host = parts.hostname
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
        if _CONTROL.search(host) or " " in host:
            raise ValueError("the host has characters that no host has")
        port = parts.port
        self.origin = Origin(parts.scheme, host, port or _PORTS[parts.scheme])
        name = f"[{host}]" if ":" in host else host
        self._host = f"{name}:{port}" if port and port != _PORTS[parts.scheme] else name
        self._path = _path(parts)
        self._login = _login(parts)
        self._method = ""
        self._headers: Mapping[str, str] = {}
        self._head = b""

    def encode(self, request: HttpRequest) -> bytes:
        """The whole request. Raises ValueError when it cannot be written as HTTP/1.1."""
        if request.headers != self._headers or request.method != self._method:
            self._remember(request)
        body = request.body
        if not body and request.method in _BODILESS:
            return self._head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)

    def _remember(self, request: HttpRequest) -> None:
        self._head = self._build(request.method, request.headers)
        self._headers = dict(request.headers)
        self._method = request.method

    def _build(self, method: str, headers: Mapping[str, str]) -> bytes:
        # An answer to HEAD or CONNECT cannot be read without knowing its request.
        if not _TOKEN.fullmatch(method) or method in ("HEAD", "CONNECT"):
            raise ValueError(f"method {method!r} is not supported")
        lines = [
            f"{method} {self._path} HTTP/1.1\r\nHost: {self._host}\r\nAccept-Encoding: identity\r\n"
        ]
        given = set()
        for name, value in headers.items():
            line = header_line(name, value)
            lower = name.lower()
            if lower not in _OURS:
                given.add(lower)
                lines.append(line)
        if "user-agent" not in given:
            lines.append(f"User-Agent: dispatcher/{__version__}\r\n")
        if self._login and "authorization" not in given:
            lines.append(f"Authorization: Basic {self._login}\r\n")
        return "".join(lines).encode("latin-1")


def header_line(name: str, value: str) -> str:
    """One header as it is written. Raises ValueError for one that could be read as more."""
    if not _TOKEN.fullmatch(name) or _CONTROL.search(value):
        raise ValueError(f"header {name!r} has characters that no header has")
    return f"{name}: {value}\r\n"


def _path(parts: SplitResult) -> str:
    path = parts.path or "/"
    return quote(f"{path}?{parts.query}" if parts.query else path, safe=_PATH)


def _login(parts: SplitResult) -> str:
    """What a name and a password in the URL stand for."""
    if parts.username is None:
        return ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return b64encode(pair.encode()).decode()
