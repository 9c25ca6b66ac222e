"""The least a client can do: write the same bytes again whenever the parser has seen an answer.

No pool, no time-outs, no limits: what a transport on asyncio cannot beat.
"""

from __future__ import annotations

import asyncio
import ssl
import time

import httptools


class Work:
    """What the connections share: how many requests are still to be sent and to be answered."""

    def __init__(self, wire: bytes, count: int) -> None:
        self.wire = wire
        self.unsent = self.unanswered = count
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, reason: str) -> None:
        """End the run: a benchmark of refused requests would measure something else."""
        if not self.ended.done():
            self.ended.set_exception(SystemExit(f"a request of the bare loop {reason}"))


class Bare(asyncio.Protocol):
    """One connection."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._work.fail("lost its connection")

    def send(self) -> None:
        """Send the next request, if there is one left."""
        work = self._work
        if work.unsent > 0:
            work.unsent -= 1
            self.transport.write(work.wire)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        work = self._work
        if self._parser.get_status_code() >= 300:
            work.fail(f"was answered {self._parser.get_status_code()}")
        work.unanswered -= 1
        if work.unsent > 0:
            self.send()
        elif work.unanswered == 0 and not work.ended.done():
            work.ended.set_result(None)


async def measure(
    wire: bytes, count: int, concurrency: int, port: int, context: ssl.SSLContext | None = None
) -> float:
    """Requests per second over connections that are open before the first request."""
    loop = asyncio.get_running_loop()
    work = Work(wire, count)
    name = "localhost" if context else None
    protocols = []
    for _ in range(min(count, concurrency)):
        _, protocol = await loop.create_connection(
            lambda: Bare(work), "127.0.0.1", port, ssl=context, server_hostname=name
        )
        protocols.append(protocol)
    started = time.perf_counter()
    for protocol in protocols:
        protocol.send()
    await work.ended
    rate = count / (time.perf_counter() - started)
    for protocol in protocols:
        protocol.transport.abort()  # type: ignore[attr-defined]
    return rate
