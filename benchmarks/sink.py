"""The other end of a benchmark: an HTTP server that reads requests and says yes, nothing else.

One process on the bare asyncio protocol that only looks for the length of a body, so that it is not
what is measured. `python -m benchmarks.sink` prints its port. To the line `requests` on its stdin
it prints how many requests it has answered, to `stamps` how many of them were stamped, to `sample`
the longest of them in base64, to any other line how many messages they held. It ends with its stdin
and then prints `number time` of every stamped message, the time on the monotonic clock in ns.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from typing import cast

import uvloop

BODY = b'{"sid":"SM00000000000000000000000000000000","status":"queued"}'
STAMP_DIGITS = 6
SLOTS = 1024
"""Of the wheel of delayed answers, a millisecond each: the longest delay."""


class Desk:
    """What the connections share: the answer, the counts and the stamps."""

    def __init__(self, status: int, mark: bytes, stamp: bytes) -> None:
        head = f"HTTP/1.1 {status} Yes\r\nContent-Type: application/json\r\nContent-Length: "
        self.answer = head.encode() + f"{len(BODY)}\r\n\r\n".encode() + BODY
        self.requests = self.messages = 0
        self.sample = b""
        self.stamps: list[tuple[int, int]] = []
        self._mark = mark
        self._stamp = stamp
        self.reply: Callable[[asyncio.WriteTransport], None] = self._reply

    def tell(self, what: bytes) -> int | str:
        """What the line on stdin asks for."""
        if what == b"sample":
            return b64encode(self.sample).decode()
        if what == b"stamps":
            return len(self.stamps)
        return self.requests if what == b"requests" else self.messages

    def take(self, body: bytes, transport: asyncio.WriteTransport) -> None:
        """Count a request and answer it."""
        self.requests += 1
        self.messages += body.count(self._mark) if self._mark else 1
        if self._stamp and (at := body.find(self._stamp)) >= 0:
            at += len(self._stamp)
            self.stamps.append((int(body[at : at + STAMP_DIGITS]), time.monotonic_ns()))
        self.reply(transport)

    def _reply(self, transport: asyncio.WriteTransport) -> None:
        transport.write(self.answer)


class Delay:
    """Answers after `low` to `high` milliseconds, evenly spread, in steps of one."""

    def __init__(self, answer: bytes, low: int, high: int) -> None:
        self._answer = answer
        self._low, self._width = low, high - low + 1
        self._slots: list[list[asyncio.WriteTransport]] = [[] for _ in range(SLOTS)]
        self._loop = asyncio.get_running_loop()
        self._now = int(self._loop.time() * 1000)
        self._tick()

    def reply(self, transport: asyncio.WriteTransport) -> None:
        """Answer later."""
        at = self._now + self._low + int(random.random() * self._width)
        self._slots[at % SLOTS].append(transport)

    def _tick(self) -> None:
        now = int(self._loop.time() * 1000)
        while self._now < now:
            self._now += 1
            slot = self._slots[self._now % SLOTS]
            for transport in slot:
                if not transport.is_closing():
                    transport.write(self._answer)
            slot.clear()
        self._loop.call_later(0.001, self._tick)


class Sink(asyncio.Protocol):
    """One connection. Requests have a Content-Length; another one ends the connection."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        while data:
            head = data.find(b"\r\n\r\n")
            if head < 0:
                break
            at = data.index(b"ontent-Length: ", 0, head) + 15
            end = head + 4 + int(data[at : data.index(b"\r", at)])
            if len(data) < end:
                break
            if end > len(self._desk.sample):
                self._desk.sample = data[:end]
            self._desk.take(data[head + 4 : end], self._transport)
            data = data[end:]
        self._rest = data


def _context(certificate: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    desk = Desk(options.status, options.count.encode(), options.stamp.encode())
    if options.delay:
        desk.reply = Delay(desk.answer, *options.delay).reply
    server = await loop.create_server(
        lambda: Sink(desk), "127.0.0.1", 0, backlog=4096, ssl=_context(options.tls)
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    while line := await asked.readline():
        print(desk.tell(line.strip()), flush=True)
    for number, at in desk.stamps:
        print(number, at)
    server.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink")
    parser.add_argument("--tls", metavar="FILE", help="certificate and key")
    parser.add_argument("--status", type=int, default=201)
    parser.add_argument("--delay", type=int, nargs=2, metavar=("LOW", "HIGH"), help="milliseconds")
    parser.add_argument("--count", default="", metavar="TEXT", help="stands once in every message")
    parser.add_argument("--stamp", default="", metavar="TEXT", help="stands before a number")
    options = parser.parse_args()
    if options.delay and not 0 < options.delay[0] <= options.delay[1] < SLOTS:
        parser.error(f"--delay: LOW and HIGH must be 1 to {SLOTS - 1}, in this order")
    return options


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(_options()))
