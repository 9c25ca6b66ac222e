"""Takes what waits in one lane to others, some entries at a time.

All methods raise StoreUnavailable; what did not get an answer may be done again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import redis.asyncio as aioredis

from dispatcher.messages import CLASSES
from dispatcher.store.claims import RETURNED
from dispatcher.store.connection import answering
from dispatcher.store.crossings import Crossings
from dispatcher.store.keys import Keys
from dispatcher.store.operations import Action, packed
from dispatcher.store.queue import NewEntry
from dispatcher.store.scripts import Script

_pack = msgspec.msgpack.Encoder().encode
SCHEDULED = ""
"""In the place of the queue: an entry that waits for its time."""
PAGE = 10
"""Entries read in one go."""
ITEMS = 500
"""Scheduled entries looked at in one go."""


class Waiting(NamedTuple):
    """An entry of a lane that waits in the queue `queue`, or for its time. `reclaims` is None for
    one that was never taken over, `ambiguous` as in ClaimedEntry."""

    lane: str
    queue: str
    id: str
    messages: int
    body: bytes
    ambiguous: int | None
    reclaims: int | None


class NewPlace(NamedTuple):
    """A part of an entry where it goes to. It keeps its time, its tenant and its class."""

    entry: NewEntry
    ambiguous: int | None
    reclaims: int | None


class Target(NamedTuple):
    """What a lane must know of what comes to it."""

    lane: str
    limits: tuple[str, ...]
    tenant: str
    weight: float


class Moved(NamedTuple):
    """Messages that were moved, and those that had been taken by a worker or moved before."""

    messages: int
    missed: int


class Moving:
    """The entries of all cells; a lane is in the cell of its provider. `confirming` as in Queue."""

    def __init__(
        self, client: aioredis.Redis, keys: Keys, confirming: aioredis.Redis | None = None
    ) -> None:
        self._client = client
        self._cells = keys.all()
        self._place = keys.place
        self._moves = {cell: Script(client, own, "move") for cell, own in self._cells.items()}
        self._scheduled = {
            cell: Script(client, own, "scheduled") for cell, own in self._cells.items()
        }
        self._crossings = [Crossings(client, own, confirming) for own in self._cells.values()]

    async def carry(self, status_seconds: float) -> None:
        """Carry over what was moved to lanes in other cells. Workers of the cells that it leaves do
        so too, if there are any."""
        for crossings in self._crossings:
            await crossings.carry(status_seconds)

    def _keys(self, lane: str) -> Keys:
        return self._cells[self._place(lane)]

    async def waiting(self, lane: str) -> AsyncIterator[list[Waiting]]:
        """The entries in the queues of a lane, the most urgent first."""
        for class_ in CLASSES:
            fair = self._keys(lane).name("fair", f"{lane}:{class_}")
            tenants = await answering(partial(self._client.zrange, fair, 0, -1))
            for tenant in (RETURNED, *(tenant.decode() for tenant in tenants)):
                async for page in self._queue(lane, f"{lane}:{class_}:{tenant}"):
                    yield page

    async def _queue(self, lane: str, name: str) -> AsyncIterator[list[Waiting]]:
        key, after = self._keys(lane).name("queue", name), "-"
        while True:
            page = await answering(partial(self._client.xrange, key, after, "+", PAGE))
            if not page:
                return
            yield [_waiting(lane, name, entry_id.decode(), fields) for entry_id, fields in page]
            after = f"({page[-1][0].decode()}"

    async def scheduled(self, pattern: str) -> AsyncIterator[list[Waiting]]:
        """The entries that wait for their time, of all lanes that a pattern covers."""
        for cell, keys in self._cells.items():
            name = keys.name("scheduled")
            ids = await answering(partial(self._client.zrange, name, 0, -1))
            for at in range(0, len(ids), ITEMS):
                items = await self._scheduled[cell](name, pattern, *ids[at : at + ITEMS])
                found = [_item(*item) for item in items]
                for first in range(0, len(found), PAGE):
                    yield found[first : first + PAGE]

    async def move(
        self,
        lane: str,
        entries: Sequence[tuple[Waiting, Sequence[NewPlace]]],
        targets: Iterable[Target],
        action: Action,
    ) -> Moved:
        """Put these entries where they go to, each at once or not at all."""
        cell = self._place(lane)
        here = [t for t in targets if self._place(t.lane) == cell]
        plan = {
            "lanes": [(t.lane, " ".join(t.limits), t.tenant, str(t.weight)) for t in here],
            "entries": [
                (e.queue, e.id, [self._part(new, cell) for new in parts]) for e, parts in entries
            ],
        }
        bodies = (new.entry.body for _, parts in entries for new in parts)
        moved, missed = await self._moves[cell](
            self._keys(lane).name("lane", lane), lane, packed(action), _pack(plan), *bodies
        )
        return Moved(int(moved), int(missed))

    def _part(self, new: NewPlace, cell: str) -> tuple[str, str, int, int, int, int, bool]:
        ambiguous = -1 if new.ambiguous is None else new.ambiguous
        reclaims = -1 if new.reclaims is None else new.reclaims
        entry, leaves = new.entry, self._place(new.entry.lane) != cell
        return entry.lane, entry.class_, entry.count, entry.cost, ambiguous, reclaims, leaves


def _waiting(lane: str, queue: str, entry_id: str, fields: dict[bytes, bytes]) -> Waiting:
    def number(name: bytes) -> int | None:
        return int(fields[name]) if name in fields else None

    body = fields[b"body"]
    return Waiting(lane, queue, entry_id, int(fields[b"n"]), body, number(b"a"), number(b"r"))


def _item(
    item_id: bytes, lane: bytes, messages: int, body: bytes, ambiguous: int, reclaims: int
) -> Waiting:
    unclear = None if ambiguous < 0 else ambiguous
    taken = None if reclaims < 0 else reclaims
    return Waiting(lane.decode(), SCHEDULED, item_id.decode(), messages, body, unclear, taken)
