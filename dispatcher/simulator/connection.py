"""The HTTP/1.1 server side of one connection: an asyncio.Protocol around httptools.

A request becomes an `Exchange`, which may be answered at once, later or never. Answers leave in
the order of the requests, so pipelined requests behind an unanswered one wait for it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import httptools

from dispatcher.simulator.wire import Reply, Request, encode, encode_head

if TYPE_CHECKING:
    from typing import Protocol

    class Watcher(Protocol):
        """Told about connections that open and close."""

        def opened(self, connection: Connection) -> None: ...
        def closed(self, connection: Connection) -> None: ...


MAX_BODY = 32 * 1024 * 1024
"""Bytes of body in one request; more is answered 413."""
MAX_HEAD = 64 * 1024
"""Bytes of request line and headers; more is answered 431."""
MAX_PIPELINED = 256
"""Unanswered requests of one connection before it is read no further."""
LINGER = 2.0
"""Seconds a refused connection is still read, so that its peer gets to see the refusal."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class After(Enum):
    """What becomes of the connection once an answer is written."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    LINGER = "linger"


class Exchange:
    """One request waiting for its answer. The first of the methods below that is called counts."""

    __slots__ = ("_connection", "_head_only", "_keep_alive", "_old", "after", "ended", "payload")

    def __init__(self, connection: Connection, keep_alive: bool, head_only: bool, old: bool):
        self._connection = connection
        self._keep_alive = keep_alive and not old
        self._head_only = head_only
        self._old = old
        self.payload: bytes | Iterator[bytes] | None = None
        self.after = After.KEEP
        self.ended: Callable[[], None] | None = None
        """Called once, when the answer is ready or the connection is gone."""

    def reply(self, reply: Reply, close: bool = False) -> None:
        """Answer; `close` ends the connection afterwards."""
        close = close or not self._keep_alive
        payload = encode(reply, close)
        if self._head_only:
            payload = payload[: len(payload) - len(reply.body)]
        self._settle(payload, After.CLOSE if close else After.KEEP)

    def stream(self, reply: Reply, chunks: Iterator[bytes]) -> None:
        """Answer with a body of unknown length, taken from `chunks` as fast as it is read."""
        framing = "" if self._old else "Transfer-Encoding: chunked\r\n"
        head = encode_head(reply, framing, not self._keep_alive)
        body = iter(()) if self._head_only else chunks if self._old else _chunked(chunks)
        self._settle(_prefixed(head, body), After.KEEP if self._keep_alive else After.CLOSE)

    def reply_partly(self, reply: Reply) -> None:
        """Announce the whole answer, write half of its body and close."""
        whole = encode(reply, close=True)
        self._settle(whole[: len(whole) - (len(reply.body) + 1) // 2], After.CLOSE)

    def refuse(self, reply: Reply) -> None:
        """Answer a request that is not read to its end, and close."""
        self._settle(encode(reply, close=True), After.LINGER)

    def write_raw(self, payload: bytes, after: After) -> None:
        """Write `payload` as it is, whether it is HTTP or not."""
        self._settle(payload, after)

    def reset(self) -> None:
        """End the connection with a TCP reset and no answer."""
        self._settle(b"", After.RESET)

    def abandon(self) -> None:
        """The connection is gone."""
        if self.payload is None:
            self.payload = b""
            self._end()

    def _settle(self, payload: bytes | Iterator[bytes], after: After) -> None:
        if self.payload is None:
            self.payload = payload
            self.after = after
            self._end()
            self._connection.flush()

    def _end(self) -> None:
        if self.ended is not None:
            self.ended()


Handler = Callable[[Request, Exchange], None]


class Connection(asyncio.Protocol):
    """Parses requests, hands them to `handle` and writes answers in order."""

    def __init__(self, handle: Handler, watcher: Watcher) -> None:
        self._handle = handle
        self._watcher = watcher
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Exchange] = deque()
        self._ready: list[tuple[Request, Exchange]] = []
        self._refusal: Reply | None = None
        self._corked = False
        self._finished = False
        self._reading = True
        self._writable = True
        self._in_head = False
        self._heads = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._watcher.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finished = True
        self._transport = None
        self._watcher.closed(self)
        for exchange in self._queue:
            exchange.abandon()
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        if self._finished or self._refusal is not None:
            return
        self._feed(data)
        self._corked = True
        ready, self._ready = self._ready, []
        for request, exchange in ready:
            self._handle(request, exchange)
        self._corked = False
        if self._refusal is not None:
            exchange = self._enqueue(keep_alive=False, head_only=False)
            exchange.refuse(self._refusal)
        self.flush()

    def pause_writing(self) -> None:
        self._writable = False
        self._steer()

    def resume_writing(self) -> None:
        self._writable = True
        self.flush()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._in_head = True
        self._url = b""
        self._headers = {}
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._heads += 1
        self._head_bytes = 0
        announced = self._headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > MAX_BODY:
            self._refuse(413, f"the body has more than {MAX_BODY} bytes")
        elif self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._enqueue(keep_alive=True, head_only=False).write_raw(_CONTINUE, After.KEEP)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > MAX_BODY:
            self._refuse(413, f"the body has more than {MAX_BODY} bytes")
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._refusal is not None:
            return
        method = self._parser.get_method().decode("latin-1")
        path, _, query = _target(self._url).partition("?")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = Request(
            method, unquote(path) if "%" in path else path, query, self._headers, body
        )
        keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        exchange = self._enqueue(keep_alive, method == "HEAD")
        self._ready.append((request, exchange))

    # reading

    def _feed(self, data: bytes) -> None:
        started_in_head, heads = self._in_head, self._heads
        try:
            # A switch of protocols is not offered: its request is answered and the last one.
            with suppress(httptools.HttpParserUpgrade):
                self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is not HTTP/1.1: {error}")
        if self._in_head and started_in_head and self._heads == heads:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse(431, f"the headers have more than {MAX_HEAD} bytes")

    def _refuse(self, status: int, detail: str) -> None:
        if self._refusal is None:
            self._refusal = Reply(status, f"{detail}\n".encode(), content_type="text/plain")

    def _enqueue(self, keep_alive: bool, head_only: bool) -> Exchange:
        old = self._parser.get_http_version() == "1.0"
        exchange = Exchange(self, keep_alive, head_only, old)
        self._queue.append(exchange)
        return exchange

    # writing

    def flush(self) -> None:
        """Write every answer whose turn has come."""
        if self._corked or self._finished or self._transport is None:
            return
        self._write_ready(self._transport)
        self._steer()

    def _write_ready(self, transport: asyncio.Transport) -> None:
        out: list[bytes] = []
        while self._queue and (payload := self._queue[0].payload) is not None:
            if isinstance(payload, bytes):
                out.append(payload)
            else:
                transport.write(b"".join(out))
                out.clear()
                if not self._pump(transport, payload):
                    return
            after = self._queue.popleft().after
            if after is not After.KEEP:
                transport.write(b"".join(out))
                self._finish(transport, after)
                return
        if out:
            transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _pump(self, transport: asyncio.Transport, chunks: Iterator[bytes]) -> bool:
        """Write a streamed answer while the peer takes it; True when all of it is written."""
        while self._writable:
            chunk = next(chunks, None)
            if chunk is None:
                return True
            transport.write(chunk)
        return False

    def _finish(self, transport: asyncio.Transport, after: After) -> None:
        self._finished = True
        if after is After.RESET:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        elif after is After.LINGER and transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
            asyncio.get_running_loop().call_later(LINGER, transport.abort)
        else:
            transport.close()

    def _steer(self) -> None:
        """Read on only while the peer takes answers and few requests are waiting."""
        wanted = self._writable and len(self._queue) < MAX_PIPELINED
        if wanted == self._reading or self._finished or self._transport is None:
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


def _target(url: bytes) -> str:
    """The path and query of a request target; the absolute form is what proxies are sent."""
    if url.startswith((b"http://", b"https://")):
        url = b"/" + url.split(b"/", 3)[3] if url.count(b"/") > 2 else b"/"
    return url.decode("latin-1")


def _prefixed(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks


def _chunked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if chunk:
            yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"
