"""Waits for the bell: the token that wakes one of the workers that wait for a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import redis.asyncio as aioredis

from dispatcher.store.connection import ANSWER_SECONDS, answering
from dispatcher.store.keys import Keys

WAIT_SECONDS = 20


class Bell:
    """The bells of some providers, on a connection of their own."""

    def __init__(self, blocking: aioredis.Redis, keys: Keys, providers: Iterable[str]) -> None:
        self._client = blocking
        self._names = {keys.name("bell", provider).encode(): provider for provider in providers}

    async def rung(self) -> str | None:
        """Wait for a token; the provider it is for, or None after a while without one.
        Raises StoreUnavailable."""
        reply = await answering(self._wait)
        return None if reply is None else self._names[reply[0]]

    async def _wait(self) -> Any:
        """A connection that died without a word would be waited on for ever."""
        async with asyncio.timeout(WAIT_SECONDS + ANSWER_SECONDS):
            return await self._client.blpop(list(self._names), timeout=WAIT_SECONDS)
