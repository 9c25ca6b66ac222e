"""The way of messages from one cell into another: a provider that takes over may be there.

What is settled in one cell cannot be enqueued in another at the same moment. So a settle call
writes such a move to `leaving`, and its messages still count there; any worker then lets it arrive
in the other cell, where its name is remembered, and depart from this one. Whoever ends in between
leaves the move where another worker finds it, and however often it is carried, it arrives once.

What waits in the cell that a provider had before goes the same way to the one it has now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import redis.asyncio as aioredis

from dispatcher.errors import StoreUnavailable
from dispatcher.store.connection import answering
from dispatcher.store.keys import Keys
from dispatcher.store.scripts import Argument, Script

REMEMBERED_SECONDS = 24 * 3600
"""How long a cell knows the names of the moves that came in."""
AT_ONCE = 100
"""Moves under way together."""


class Crossings:
    """What leaves one cell, `keys`, for the others; `confirming` as in Queue: what has arrived is
    taken out where it was safe."""

    def __init__(
        self, client: aioredis.Redis, keys: Keys, confirming: aioredis.Redis | None = None
    ) -> None:
        self._client = client
        self._keys = keys
        self._depart = Script(client, keys, "depart")
        self._strays = Script(client, keys, "strays")
        self._arrive = {
            cell: (own, Script(confirming or client, own, "arrive"))
            for cell, own in keys.all().items()
        }

    async def carry(self, status_seconds: float) -> int:
        """Carry over all that waits; the number of moves. A batch that has no message left here is
        forgotten after `status_seconds`. A cell that does not answer holds up what goes there
        alone. Raises StoreUnavailable when nothing else is left."""
        carried: list[Argument] = []
        total = 0
        while moves := await self._waiting(status_seconds, carried):
            ways: dict[str, list[Any]] = defaultdict(list)
            for move in moves:
                ways[self._keys.place(move[0].decode())].append(move)
            failures: list[StoreUnavailable] = []
            carried = []
            for cell, going in ways.items():
                try:
                    carried += await self._take_in(cell, going)
                except StoreUnavailable as error:
                    failures.append(error)
            total += len(carried)
            if not carried:
                raise failures[0]
        return total

    async def _take_in(self, cell: str, moves: Sequence[Any]) -> list[Argument]:
        """Have moves arrive in a cell; their names."""
        keys, arrive = self._arrive[cell]
        arguments = (argument for _, *move in moves for argument in move)
        await arrive(keys.name("scheduled"), REMEMBERED_SECONDS, *arguments)
        return [name for _, name, *_ in moves]

    async def send_on(self) -> int:
        """Have what waits for providers of other cells leave; the number of messages. What is due
        goes to its lane before, whoever claims of it. Raises StoreUnavailable."""
        name = self._keys.name("providers")
        known = await answering(partial(self._client.hkeys, name))
        place, cell = self._keys.place, self._keys.cell
        elsewhere = [provider for provider in known if place(provider.decode()) != cell]
        total = 0
        while messages := int(await self._strays(name, AT_ONCE, *elsewhere)):
            total += messages
        return total

    async def _waiting(self, status_seconds: float, carried: list[Argument]) -> list[Any]:
        name = self._keys.name("leaving")
        return list(await self._depart(name, AT_ONCE, int(status_seconds), *carried))
