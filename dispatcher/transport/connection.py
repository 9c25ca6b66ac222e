"""One connection of HTTP/1.1: one request out, one answer in, then the next."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import select
from collections.abc import Iterator, Mapping
from typing import Protocol, cast

import httptools

from dispatcher.exchange import Delivery, Done, HttpAnswer, Result

log = logging.getLogger(__name__)

HEAD_BYTES = 64 << 10
"""Bytes of the head of an answer, interim answers included; more is a breach of protocol."""
BODY_BYTES = 1 << 20
"""Bytes of the body of an answer; more is a breach of protocol."""

_KEEP_ALIVE = re.compile(r"(?:^|[ ,;])timeout=(\d{1,9})", re.IGNORECASE)


class Owner(Protocol):
    """Told what becomes of its connections."""

    def opened(self, connection: Connection) -> None:
        """It stands."""
        ...

    def proved(self, connection: Connection) -> None:
        """Its first answer is in."""
        ...

    def released(self, connection: Connection) -> None:
        """It has its answer and can take another request."""
        ...

    def lost(self, connection: Connection) -> None:
        """It is gone."""
        ...


class Headers(Mapping[str, str]):
    """The headers of an answer, decoded when somebody looks. Values of one name are joined."""

    __slots__ = ("_decoded", "_pairs")

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs
        self._decoded: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"Headers({self._all()!r})"

    def _all(self) -> dict[str, str]:
        if self._decoded is None:
            self._decoded = {}
            for raw_name, raw_value in self._pairs:
                name, value = raw_name.lower().decode("latin-1"), raw_value.decode("latin-1")
                before = self._decoded.get(name)
                self._decoded[name] = value if before is None else f"{before}, {value}"
        return self._decoded


class Connection(asyncio.Protocol):
    """Carries one request at a time.

    `until` is the loop time (seconds) at which it has waited long enough: for its answer when
    busy, for a request when idle. `since` is when it became idle, `retires` when it takes no
    further request, `keep_alive` how many seconds it may be idle; `answers` counts.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_body_bytes",
        "_done",
        "_in_head",
        "_keep",
        "_owner",
        "_pairs",
        "_parser",
        "_received",
        "answers",
        "keep_alive",
        "retires",
        "since",
        "transport",
        "until",
    )

    transport: asyncio.Transport
    _answer: HttpAnswer | None
    _pairs: list[tuple[bytes, bytes]]
    _body: list[bytes]

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._done: Done | None = None
        self._received = self._body_bytes = 0
        self._in_head = self._keep = True
        self.answers = 0
        self.until = self.retires = self.keep_alive = math.inf
        self.since = 0.0
        self._expect()

    def __repr__(self) -> str:
        state = "closed" if self.transport.is_closing() else "busy" if self.busy else "idle"
        return f"<Connection {state}, {self.answers} answers>"

    @property
    def busy(self) -> bool:
        """A request is out and its answer is not in."""
        return self._done is not None

    def begin(self, wire: bytes, until: float, done: Done) -> None:
        """Write a request whose answer is due at `until`. From here on it counts as sent."""
        self._done = done
        self.until = until
        self.transport.write(wire)

    def silent(self) -> bool:
        """Nothing has arrived that the event loop has not read yet: no end, no early answer."""
        socket = self.transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def expire(self) -> None:
        """It has waited long enough."""
        self.fail("timeout")

    def fail(self, reason: str) -> None:
        """Close at once; the request it carries, if any, ends as unknown."""
        self.transport.abort()
        if self._done is not None:
            self._finish(Result(Delivery.UNKNOWN, None, reason))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._done is None:
            self.transport.abort()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._answer is None:
                self.fail("protocol")
                return
            self._keep = False
        if self._answer is not None:
            self._answered(self._answer)
        elif self._body_bytes > BODY_BYTES or (self._in_head and self._received > HEAD_BYTES):
            self.fail("protocol")

    def eof_received(self) -> None:
        if self._done is not None and self._ends_with_connection():
            self._keep = False
            self._answered(self._complete())
        else:
            self.fail("reset")

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.lost(self)
        if self._done is not None:
            self._finish(Result(Delivery.UNKNOWN, None, "reset"))

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._answer is not None:
            raise ValueError("two answers for one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer
            self._pairs.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        # The head may have come in one piece with a part of the body.
        if self._received > HEAD_BYTES:
            size = sum(len(name) + len(value) + 4 for name, value in self._pairs)
            if size > HEAD_BYTES:
                raise ValueError("the head is too long")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # an interim answer
            self._pairs = []
            self._in_head = True
        elif self._body_bytes <= BODY_BYTES:
            self._keep = self._parser.should_keep_alive()
            self._answer = self._complete()

    # the end of an exchange

    def _expect(self) -> None:
        """Be ready for the first byte of an answer."""
        self._answer = None
        self._pairs = []
        self._body = []
        self._body_bytes = self._received = 0
        self._in_head = self._keep = True

    def _complete(self) -> HttpAnswer:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        return HttpAnswer(self._parser.get_status_code(), Headers(self._pairs), body)

    def _ends_with_connection(self) -> bool:
        """The body has neither a length nor chunks, so the end of the connection ends it."""
        if self._in_head or self._body_bytes > BODY_BYTES:
            return False
        return not {"content-length", "transfer-encoding"} & Headers(self._pairs).keys()

    def _answered(self, answer: HttpAnswer) -> None:
        done, self._done = self._done, None
        keep = self._keep
        self.answers += 1
        if self.answers == 1:
            self._learn(answer.headers)
            self._owner.proved(self)
        self._expect()
        # A server that answers before it has read the request will not read the rest of it.
        if keep and not self.transport.get_write_buffer_size():
            self._owner.released(self)
        else:
            self.transport.abort()
        if done is not None:
            call(done, Result(Delivery.ANSWERED, answer))

    def _learn(self, headers: Mapping[str, str]) -> None:
        """How long the server keeps an idle connection; leave before it does."""
        told = _KEEP_ALIVE.search(headers.get("keep-alive", ""))
        if told is not None:
            self.keep_alive = min(self.keep_alive, max(int(told[1]) - 1.0, 0.0))

    def _finish(self, result: Result) -> None:
        done, self._done = self._done, None
        if done is not None:
            call(done, result)


def call(done: Done, result: Result) -> None:
    """Hand a result over. What goes wrong there must not touch the connection."""
    try:
        done(result)
    except Exception:
        log.exception("the result of a send could not be taken")
