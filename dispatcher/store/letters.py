"""Dead letters: what will not be sent by itself, or may have been sent.

All methods raise StoreUnavailable; what they change may be changed again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import redis.asyncio as aioredis

from dispatcher.messages import Status
from dispatcher.store.connection import answering
from dispatcher.store.keys import Keys
from dispatcher.store.operations import Action, packed
from dispatcher.store.queue import Letter
from dispatcher.store.scripts import Script

PAGE = 200
"""Letters read in one go."""
_pack = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(Letter).decode


class DeadLetter(NamedTuple):
    """A letter, the message it is about, and when it was written (us)."""

    message: str
    at_us: int
    letter: Letter


class Again(msgspec.Struct, frozen=True):
    """A message that is sent once more: `letter` as it was found, `value` its new status as
    `messages.encode_record` writes it, `body` its new entry, `due_us` 0 for at once. Tenant,
    channel and `created_us` are for a batch that is forgotten."""

    message: str
    batch: str
    index: int
    hop: int
    letter: Letter
    due_us: int
    value: bytes
    body: bytes
    tenant: str
    channel: str
    created_us: int


class Letters:
    """The dead letters of all cells; `cells` are those of each. A letter is where the message died,
    whichever cell its provider is in by now."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self.cells = tuple(CellLetters(client, own) for own in keys.all().values())

    async def count(self) -> int:
        """How many there are."""
        return sum([await cell.count() for cell in self.cells])

    async def find(self, messages: Sequence[str]) -> list[DeadLetter]:
        """Those of these messages."""
        return [found for cell in self.cells for found in await cell.find(messages)]

    async def replay(self, again: Sequence[Again], status_seconds: float, action: Action) -> int:
        """Have these messages wait again; how many. What a receipt has told of since only leaves
        the dead letters. Raises StoreFull."""
        return sum([await cell.replay(again, status_seconds, action) for cell in self.cells])

    async def drop(self, found: Sequence[DeadLetter], action: Action) -> int:
        """Forget these letters; how many there were."""
        messages = [one.message for one in found]
        return sum([await cell.drop(messages, action) for cell in self.cells])


class CellLetters:
    """The dead letters of one cell."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._client = client
        self._dead, self._letters = keys.name("dead"), keys.name("letters")
        self._replay = Script(client, keys, "replay")
        self._drop = Script(client, keys, "drop")

    async def count(self) -> int:
        """How many there are."""
        return int(await answering(partial(self._client.zcard, self._dead)))

    async def pages(
        self, since_us: int, *, newest_first: bool = False
    ) -> AsyncIterator[list[DeadLetter]]:
        """The letters that were written since a time and before this call, each once, whatever is
        removed in between; the oldest first unless asked otherwise."""
        last = await answering(partial(self._client.zrange, self._dead, -1, -1, withscores=True))
        first_us, last_us = since_us, int(last[0][1]) if last else 0
        seen: set[bytes] = set()  # of the time at which the last page ended
        while first_us <= last_us:
            most = PAGE + len(seen)
            listed = await self._listed(first_us, last_us, most, newest_first)
            yield await self._of([(m.decode(), at) for m, at in listed if m not in seen])
            if len(listed) < most:
                return
            ends_us = listed[-1][1]
            first_us, last_us = (first_us, ends_us) if newest_first else (ends_us, last_us)
            seen = {message for message, at_us in listed if at_us == ends_us}

    async def find(self, messages: Sequence[str]) -> list[DeadLetter]:
        """Those of these messages."""
        if not messages:
            return []
        times = await answering(partial(self._client.zmscore, self._dead, list(messages)))
        known = zip(messages, times, strict=True)
        return await self._of([(message, int(at)) for message, at in known if at is not None])

    async def replay(self, again: Sequence[Again], status_seconds: float, action: Action) -> int:
        """See Letters; letters that are not here are left out."""
        if not again:
            return 0
        plan = [
            (
                item.message, item.batch, item.index, item.hop, item.letter.lane,
                item.letter.class_, item.letter.cost, float(item.letter.expires_us),
                float(item.due_us), Status[item.letter.status.upper()].value, item.letter.code,
                item.tenant, item.channel, float(item.created_us),
            )
            for item in again
        ]  # fmt: skip
        blobs = (blob for item in again for blob in (item.value, item.body))
        return int(
            await self._replay(self._dead, int(status_seconds), packed(action), _pack(plan), *blobs)
        )

    async def drop(self, messages: Sequence[str], action: Action) -> int:
        """Forget these letters; how many there were."""
        return int(await self._drop(self._dead, packed(action), *messages)) if messages else 0

    async def _listed(
        self, first_us: int, last_us: int, most: int, newest_first: bool
    ) -> list[tuple[bytes, int]]:
        start, ends = (last_us, first_us) if newest_first else (first_us, last_us)
        read = partial(
            self._client.zrange, self._dead, start, ends, desc=newest_first, byscore=True,
            offset=0, num=most, withscores=True,
        )  # fmt: skip
        return [(message, int(at_us)) for message, at_us in await answering(read)]

    async def _of(self, listed: Sequence[tuple[str, int]]) -> list[DeadLetter]:
        if not listed:
            return []
        names = [message for message, _ in listed]
        values = await answering(partial(self._client.hmget, self._letters, names))
        return [
            DeadLetter(message, at_us, _read(value))
            for (message, at_us), value in zip(listed, values, strict=True)
            if value is not None
        ]
