"""A proxy in front of the store that disturbs its connections to order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Self
from urllib.parse import unquote, urlsplit

from dispatcher.store.keys import Keys
from dispatcher.store.opening import Store
from dispatcher.store.scripts import Script


class Proxy:
    """Listens on `url` and passes everything on, unless told otherwise. Where a reply is lost, the
    server has carried out the command and the client finds its connection closed. `delay` is how
    many seconds late every piece is, in both directions; `lost` counts replies."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._server: asyncio.Server | None = None
        self._order: tuple[bytes, int] | None = None
        self._met = self._left = 0
        self._links: set[asyncio.Task[None]] = set()
        self._share = 0.0
        self._frozen = asyncio.Event()
        self._random = Random()
        self.delay = 0.0
        self.lost = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def lose(self, name: str, every: int = 1, times: int = 1) -> None:
        """Lose the reply of every nth call of a script from now on, so many times."""
        script = Script(self._store.client, Keys("any"), name)
        await self._store.client.script_load(script._source)
        self._order = (script._sha.encode(), every)
        self._met, self._left = 0, times

    def drop(self, share: float, seed: int = 0) -> None:
        """Lose this share of all replies, whatever they answer; 0 ends it."""
        self._share, self._random = share, Random(seed)

    def cut(self) -> int:
        """Close every connection there is; how many those were."""
        for link in self._links:
            link.cancel()
        return len(self._links)

    def freeze(self) -> None:
        """Leave connections open, old and new ones, and let nothing pass through them."""
        self._frozen.set()

    def thaw(self) -> None:
        """Let new connections work again. Those that were there stay open and dead."""
        self._frozen = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        link = _Link(self, self._frozen, reader, writer)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await link.run(self._store.url)
        finally:
            writer.close()
            self._links.discard(task)

    def drops(self) -> bool:
        """Whether the reply that is on its way now is to be lost."""
        if not self._share or self._random.random() >= self._share:
            return False
        self.lost += 1
        return True

    def strikes(self, chunk: bytes) -> bool:
        """Whether the reply to what begins in this piece is to be lost."""
        if self._order is None or self._order[0] not in chunk:
            return False
        self._met += 1
        if self._met % self._order[1] or not self._left:
            return False
        self._left -= 1
        self.lost += 1
        return True


class _Link:
    """One connection; a client has one command under way at a time."""

    def __init__(
        self,
        proxy: Proxy,
        frozen: asyncio.Event,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy, self._frozen, self._reader, self._writer = proxy, frozen, reader, writer
        self._losing = False

    async def run(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            reader, writer = await asyncio.open_unix_connection(unquote(parts.path))
        else:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 6379)
        up = asyncio.create_task(self._up(writer))
        down = asyncio.create_task(self._down(reader))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            writer.close()

    async def _up(self, writer: asyncio.StreamWriter) -> None:
        while chunk := await self._reader.read(1 << 16):
            self._losing = self._losing or self._proxy.strikes(chunk)
            if await self._passes():
                writer.write(chunk)
                await writer.drain()

    async def _down(self, reader: asyncio.StreamReader) -> None:
        while (chunk := await reader.read(1 << 16)) and not self._losing:
            if not await self._passes():
                continue
            if self._proxy.drops():
                return
            self._writer.write(chunk)
            await self._writer.drain()

    async def _passes(self) -> bool:
        """Whether a piece gets through, after the delay there is now."""
        if self._proxy.delay:
            await asyncio.sleep(self._proxy.delay)
        return not self._frozen.is_set()
