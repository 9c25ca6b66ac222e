"""Hears what the scripts announce: limits and lanes whose slots are no longer what they were."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, NamedTuple

import redis.asyncio as aioredis
from redis.asyncio.client import PubSub

from dispatcher.errors import StoreUnavailable
from dispatcher.store.cells_client import at_cell
from dispatcher.store.connection import ANSWER_SECONDS, answering
from dispatcher.store.keys import Keys

SILENT_SECONDS = 20.0
"""After so long without a message the connection is asked whether it still lives."""
_ORIGIN = "by:"


class Announcement(NamedTuple):
    """Something has changed. `what` are names of limits, `lane:<lane>` or `*`, separated by
    spaces; `origin` is the worker that brought it about, "" where none did."""

    what: str
    origin: str = ""

    @classmethod
    def parse(cls, text: str) -> Announcement:
        """Read the text of a message."""
        first, _, rest = text.partition(" ")
        if first.startswith(_ORIGIN):
            return cls(rest, first.removeprefix(_ORIGIN))
        return cls(text)


class Control:
    """The announcements of a cell, on a connection of their own."""

    def __init__(self, blocking: aioredis.Redis, keys: Keys) -> None:
        self._client = at_cell(blocking, keys.tag)
        self._name = keys.name("control")

    async def number(self) -> int:
        """How often something has changed so far. Raises StoreUnavailable."""
        return int(await answering(partial(self._client.get, self._name)) or 0)

    async def announcements(self) -> AsyncGenerator[Announcement | None, None]:
        """Subscribe; None says that from here on nothing is missed. Ends with StoreUnavailable."""
        pubsub = self._client.pubsub()
        try:
            await answering(partial(pubsub.subscribe, self._name))
            while True:
                message = await self._next(pubsub)
                if message["type"] == "subscribe":
                    yield None
                elif message["type"] == "message":
                    yield Announcement.parse(message["data"].decode())
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _next(self, pubsub: PubSub) -> dict[str, Any]:
        """The next message; a connection that was silent for long must answer."""
        message = await answering(partial(pubsub.get_message, timeout=SILENT_SECONDS))
        if message is None:
            await answering(pubsub.ping)
            message = await answering(partial(pubsub.get_message, timeout=ANSWER_SECONDS))
        if message is None:
            raise StoreUnavailable("the connection for announcements has died")
        return dict(message)
