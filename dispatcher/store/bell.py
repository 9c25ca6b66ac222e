"""Waits for the bell: the token that wakes one of the workers that wait for a provider."""

from __future__ import annotations

from collections.abc import Iterable

import redis.asyncio as aioredis

from dispatcher.store.cells_client import at_cell
from dispatcher.store.connection import answering
from dispatcher.store.keys import Keys

WAIT_SECONDS = 20


class Bell:
    """The bells of some providers, on a connection of their own."""

    def __init__(self, blocking: aioredis.Redis, keys: Keys, providers: Iterable[str]) -> None:
        self._client = at_cell(blocking, keys.tag)
        self._names = {keys.name("bell", provider).encode(): provider for provider in providers}

    async def rung(self) -> str | None:
        """Wait for a token; the provider it is for, or None after a while without one.
        Raises StoreUnavailable."""
        names = list(self._names)
        reply = await answering(lambda: self._client.blpop(names, timeout=WAIT_SECONDS))
        return None if reply is None else self._names[reply[0]]
