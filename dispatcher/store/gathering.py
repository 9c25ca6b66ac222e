"""A client for many small commands at once: those given in one turn of the event loop, or while
others are on their way, travel together.

A command keeps its own reply and its own error, so a script the server does not know is sent again
in full by whoever called it, as on any client. A lost connection is an error for all that travelled
on it. Not for commands that wait on the server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

import redis.asyncio as aioredis
from redis.asyncio.client import Pipeline

from dispatcher.store.cells_client import CellsClient

TRIPS = 2
"""Round trips at once: the server works on one while the next is gathered."""
COMMANDS = 64
"""Commands of one round trip, at most."""
BYTES = 256 * 1024
"""A round trip that has so much to carry takes no further command: small ones would wait for it."""


class _Command(NamedTuple):
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    reply: asyncio.Future[Any]

    @property
    def size(self) -> int:
        return sum(len(item) for item in self.arguments if isinstance(item, (bytes, str)))


class GatheringClient(aioredis.Redis):
    """Shares the connections of another client, which closes them."""

    trips = TRIPS
    commands = COMMANDS

    def __init__(self, client: aioredis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)
        self._waiting: deque[_Command] = deque()
        self._trips: set[asyncio.Task[None]] = set()

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """The reply. Raises what the server or the connection has against it."""
        loop = asyncio.get_running_loop()
        command = _Command(arguments, options, loop.create_future())
        self._waiting.append(command)
        if len(self._waiting) == 1:
            loop.call_soon(self._depart)
        return await command.reply

    def _depart(self) -> None:
        while self._waiting and len(self._trips) < self.trips:
            trip = asyncio.create_task(self._travel(self._load()))
            self._trips.add(trip)
            trip.add_done_callback(self._arrived)

    def _load(self) -> list[_Command]:
        commands: list[_Command] = []
        size = 0
        while self._waiting and len(commands) < self.commands and size < BYTES:
            commands.append(self._waiting.popleft())
            size += commands[-1].size
        return commands

    def _arrived(self, trip: asyncio.Task[None]) -> None:
        self._trips.discard(trip)
        self._depart()

    async def _travel(self, commands: list[_Command]) -> None:
        pipeline = self.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command.arguments, **command.options)
        try:
            replies = await self._replies(pipeline)
        except Exception as error:
            replies = [error] * len(commands)
        for command, reply in zip(commands, replies, strict=True):
            if command.reply.done():
                continue
            if isinstance(reply, Exception):
                command.reply.set_exception(reply)
            else:
                command.reply.set_result(reply)

    async def _replies(self, pipeline: Pipeline) -> list[Any]:
        """Carry out commands; a reply or an error for each."""
        return await pipeline.execute(raise_on_error=False)


def gather(client: aioredis.Redis) -> aioredis.Redis:
    """A client that gathers what is given to it; in a cluster for each cell by itself."""
    if isinstance(client, CellsClient):
        return CellsClient(client.tag, lambda tag: GatheringClient(client.at(tag)))
    return GatheringClient(client)
