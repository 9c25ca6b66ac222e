"""One client for all cells of a cluster. Each cell has a client of its own behind it, connected to
the node that serves the cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis.asyncio as aioredis

_KEY_AT = {"EVAL": 3, "EVALSHA": 3, "SCAN": 3}
"""Where the first key, or the pattern of keys, is in a command; in all others it is the first
word."""


class CellsClient(aioredis.Redis):
    """Commands go to the client of the cell whose hash tag is in their first key, those without a
    key to that of `tag`. Pipelines and subscriptions name no key when they begin: they are for
    clients of one cell, which `at` gives."""

    def __init__(self, tag: str, open_client: Callable[[str], aioredis.Redis]) -> None:
        self._clients: dict[str, aioredis.Redis] = {}
        self._open = open_client
        self.tag = tag
        super().__init__(connection_pool=self.at(tag).connection_pool)

    def at(self, tag: str) -> aioredis.Redis:
        """The client of one cell."""
        if tag not in self._clients:
            self._clients[tag] = self._open(tag)
        return self._clients[tag]

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """The reply. Raises what the server or the connection has against it."""
        place = _KEY_AT.get(arguments[0], 1)
        key = str(arguments[place]) if len(arguments) > place else ""
        _, brace, rest = key.partition("{")
        tag = f"{{{rest.partition('}')[0]}}}" if brace else self.tag
        client = self.at(tag)
        return await client.execute_command(*arguments, **options)  # type: ignore[no-untyped-call]

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the clients of all cells."""
        for client in self._clients.values():
            await client.aclose(close_connection_pool)


def at_cell(client: aioredis.Redis, tag: str) -> aioredis.Redis:
    """The client for one cell alone."""
    return client.at(tag) if isinstance(client, CellsClient) else client
