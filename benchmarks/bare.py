"""The least a client can do: write the same bytes again whenever the parser has seen an answer.

No pool, no time-outs, no limits, no errors: what a transport on asyncio cannot beat.
"""

from __future__ import annotations

import asyncio
import ssl

import httptools


class Bare(asyncio.Protocol):
    """One connection that shares `left`, the requests still to be sent, with the others."""

    def __init__(self, wire: bytes, left: list[int], ended: asyncio.Future[None]) -> None:
        self._wire = wire
        self._left = left
        self._ended = ended
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def start(self) -> None:
        """Send the first request."""
        self.transport.write(self._wire)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._left[0] -= 1
        if self._left[0] > 0:
            self.start()
        elif not self._ended.done():
            self._ended.set_result(None)


async def connect(
    wire: bytes, concurrency: int, port: int, context: ssl.SSLContext | None
) -> tuple[list[Bare], list[int], asyncio.Future[None]]:
    """Connections that have not sent anything yet."""
    loop = asyncio.get_running_loop()
    left, ended = [0], loop.create_future()
    name = "localhost" if context else None
    protocols = []
    for _ in range(concurrency):
        _, protocol = await loop.create_connection(
            lambda: Bare(wire, left, ended), "127.0.0.1", port, ssl=context, server_hostname=name
        )
        protocols.append(protocol)
    return protocols, left, ended
