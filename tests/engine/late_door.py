"""A door in front of a simulator that takes its time: TCP connects at once, TLS later."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

CERTIFICATES = Path(__file__).parent.parent / "transport" / "certificates"
AUTHORITY = str(CERTIFICATES / "authority.pem")

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class LateDoor:
    """Listens on `url` for TLS. A connection gets no further than TCP before `opened` is set, and
    then not before `delay` seconds; with `impatient` seconds it ends when no request follows."""

    def __init__(self, simulator_url: str, delay: float = 0.0, impatient: float = 0.0) -> None:
        self._simulator = urlsplit(simulator_url)
        self._delay = delay
        self._impatient = impatient or None
        self._links: set[asyncio.Task[None]] = set()
        self.opened = asyncio.Event()
        self.knocked = 0

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATES / "localhost.pem")
        self._inner = await asyncio.start_server(
            self._tracked(self._admit), "127.0.0.1", 0, ssl=context
        )
        self._outer = await asyncio.start_server(self._tracked(self._wait), "127.0.0.1", 0)
        self.url = f"https://localhost:{_port(self._outer)}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._outer.close()
        self._inner.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _tracked(self, serve: Serve) -> Serve:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._links.add(task)
            try:
                with suppress(OSError, TimeoutError, asyncio.CancelledError):
                    await serve(reader, writer)
            finally:
                writer.close()
                self._links.discard(task)

        return run

    async def _wait(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The way to TLS: held back as a whole, handshake included."""
        self.knocked += 1
        await self.opened.wait()
        await asyncio.sleep(self._delay)
        await _join(reader, writer, "127.0.0.1", _port(self._inner))

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Behind TLS: one connection to the simulator for each."""
        async with asyncio.timeout(self._impatient):
            first = await reader.read(1 << 16)
        assert self._simulator.hostname and self._simulator.port
        await _join(reader, writer, self._simulator.hostname, self._simulator.port, first)


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    port: int,
    first: bytes = b"",
) -> None:
    """Pass everything on, both ways, until one side ends."""
    far_reader, far_writer = await asyncio.open_connection(host, port)
    far_writer.write(first)
    ways = [
        asyncio.create_task(_copy(reader, far_writer)),
        asyncio.create_task(_copy(far_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
        await writer.drain()
