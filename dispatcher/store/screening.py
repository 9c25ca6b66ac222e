"""Turns of recipients: limits that hold for each recipient by itself, such as one message in 6 s.

They hold back the one message, never its lane. A message whose turn has not come is told how long
it is until then; back at that time it goes, unless others were late. See `lua/screen.lua`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import redis.asyncio as aioredis

from dispatcher.limits import Limit
from dispatcher.store.keys import Keys
from dispatcher.store.scripts import Script


class Waiting(NamedTuple):
    """A message that asks for its turn; `back` when it was given one before."""

    recipient: str
    back: bool


class Screening:
    """The recipients of one cell."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._key = keys.name("pair")
        self._screen = Script(client, keys, "screen")

    async def screen(
        self, limits: Iterable[Limit], waiting: Iterable[Waiting], within_us: int
    ) -> list[int]:
        """Check and charge messages, in their order: 0 for one that may go now, else how long (us)
        it is to its turn. What may go has to be sent within `within_us`: turns lie that much
        further apart. Raises StoreUnavailable: then the messages may have been charged."""
        paces = [(limit.name, limit.interval_us + within_us, limit.burst - 1) for limit in limits]
        rows = [(message.recipient, int(message.back)) for message in waiting]
        plan = msgspec.msgpack.encode({"limits": paces, "rows": rows})
        return list(await self._screen(self._key, plan))
