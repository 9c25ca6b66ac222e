"""A server that follows a script, byte by byte, however wrong it is."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = str(CERTIFICATES / "authority.pem")
"""Signs localhost.pem, a certificate for the name localhost only; both end in the next century."""

RESET = struct.pack("ii", 1, 0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int):
        self._reader = reader
        self.writer = writer
        self.number = number
        self.raw = b""
        self.bodies: list[bytes] = []

    async def read(self) -> bytes:
        """The body of the next request. Raises IncompleteReadError when there is none."""
        self.raw += (head := await self._reader.readuntil(b"\r\n\r\n"))
        fields = dict(line.split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
        body = await self._reader.readexactly(int(fields.get(b"Content-Length", 0)))
        self.raw += body
        self.bodies.append(body)
        return body

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def write_slowly(self, pieces: list[bytes]) -> None:
        """Each piece is read by a client on the same loop before the next one is written."""
        for piece in pieces:
            await self.write(piece)
            for _ in range(3):
                await asyncio.sleep(0)

    async def read_end(self) -> None:
        """Until the client closes."""
        while await self._reader.read(1 << 16):
            pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


async def polite(peer: Peer) -> None:
    """Every request is answered with its own body."""
    while True:
        body = await peer.read()
        await peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def silent(peer: Peer) -> None:
    """Requests are read and never answered."""
    while True:
        await peer.read()


def answers(raw: bytes, *, close: bool = False) -> Script:
    """Every request is answered with these bytes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.read()
            await peer.write(raw)
            if close:
                return

    return script


class Server:
    """Listens on the loopback address and runs a script for each connection; when a script ends,
    its connection is closed."""

    def __init__(self, script: Script = polite, *, tls: bool = False) -> None:
        self.script = script
        self.peers: list[Peer] = []
        self.now = self.most = 0
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def bodies(self) -> list[bytes]:
        """Bodies of all complete requests, by connection."""
        return [body for peer in self.peers for body in peer.bodies]

    @property
    def url(self) -> str:
        if self._tls:
            return f"https://localhost:{self.port}/in"
        return f"http://127.0.0.1:{self.port}/in"

    async def start(self) -> None:
        context = None
        if self._tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(CERTIFICATES / "localhost.pem")
            context.set_alpn_protocols(["h2", "http/1.1"])
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer, len(self.peers))
        self.peers.append(peer)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.script(peer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            self.now -= 1
            self._tasks.discard(task)
            writer.close()
