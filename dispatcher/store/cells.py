"""Several cells: each has its own hash tag, so that a cluster keeps it on a node of its own.

A provider lives in one cell with all its lanes, queues and limits. Batches have a hash in every
cell that has messages of them; the one in the main cell knows all accepted parts. What reads or
writes over all cells has the same names as what does it in one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import redis.asyncio as aioredis

from dispatcher.errors import StoreFull, StoreUnavailable
from dispatcher.store.connection import answering
from dispatcher.store.inspector import Inspector
from dispatcher.store.keys import Keys
from dispatcher.store.queue import Accepted, NewEntry, NewLane, Queue, store_full, tenant_full


class Cell(NamedTuple):
    """One cell of an open store, with the same parts. `client` and `blocking` are the store's."""

    keys: Keys
    client: aioredis.Redis
    blocking: aioredis.Redis
    queue: Queue
    inspector: Inspector

    @property
    def name(self) -> str:
        """As the configuration says."""
        return self.keys.cell


def open_cells(
    client: aioredis.Redis,
    blocking: aioredis.Redis,
    keys: Keys,
    confirming: aioredis.Redis | None = None,
) -> Mapping[str, Cell]:
    """Every cell by its name, the main one first; `confirming` as in Queue."""
    return {
        name: Cell(own, client, blocking, Queue(client, own, confirming), Inspector(client, own))
        for name, own in keys.all().items()
    }


def open_queue(
    client: aioredis.Redis, keys: Keys, confirming: aioredis.Redis | None = None
) -> Queue:
    """What enqueues into every cell; `keys` are those of the main one, `confirming` as in Queue."""
    kind = SpreadQueue if keys.several else Queue
    return kind(client, keys, confirming)


class SpreadQueue(Queue):
    """The queue of the main cell, which gives every cell its messages of a part."""

    def __init__(
        self, client: aioredis.Redis, keys: Keys, confirming: aioredis.Redis | None = None
    ) -> None:
        super().__init__(client, keys, confirming)
        self._client = client
        self._queues = {cell: Queue(client, own, confirming) for cell, own in keys.all().items()}

    async def enqueue(
        self,
        batch: str,
        part: int,
        check: str,
        *,
        tenant: str,
        channel: str,
        options: str,
        max_queued: int,
        tenant_most: int = 0,
        keep_seconds: float = 0,
        lanes: Iterable[NewLane],
        entries: Sequence[NewEntry],
    ) -> Accepted:
        """As in one cell: each is guarded by the part's number, so that a part which did not reach
        all of them is completed when it comes again. The main cell is the last: what it has
        accepted, all have.

        The bounds are checked for all cells together and before the first of them is written to.
        Parts that come at the same time do not see each other: they may go beyond by their sizes.
        """
        seen = await self._guard(batch, part)
        if seen is not None:
            return Accepted(0, True, seen)
        messages = sum(entry.count for entry in entries)
        await self._check_room(messages, tenant, max_queued, tenant_most)
        accepted, written = 0, False
        for cell, own_lanes, own_entries in self._cut(list(lanes), entries):
            try:
                answer = await self._queues[cell].enqueue(
                    batch, part, check, tenant=tenant, channel=channel, options=options,
                    max_queued=0, keep_seconds=keep_seconds, lanes=own_lanes, entries=own_entries,
                )  # fmt: skip
            except StoreFull as error:
                if not written:
                    raise
                raise StoreUnavailable(f"part {part} reached some cells only: {error}") from None
            if answer.repeated and (answer.check != check or cell == self.keys.cell):
                return answer
            accepted, written = accepted + answer.messages, True
        return Accepted(accepted)

    def _cut(
        self, lanes: Sequence[NewLane], entries: Sequence[NewEntry]
    ) -> Iterator[tuple[str, list[NewLane], list[NewEntry]]]:
        """What each cell gets of a part; the main one always, and last."""
        place = self.keys.place
        others = sorted({place(entry.lane) for entry in entries} - {self.keys.cell})
        for cell in (*others, self.keys.cell):
            own = [lane for lane in lanes if place(lane.lane) == cell]
            yield cell, own, [entry for entry in entries if place(entry.lane) == cell]

    async def _guard(self, batch: str, part: int) -> str | None:
        """The check value of a part that every cell has."""
        name = self.keys.name("batch", batch)
        seen = await answering(partial(self._client.hget, name, f"p:{part}"))
        return None if seen is None else str(seen.decode())

    async def _check_room(self, messages: int, tenant: str, most: int, tenant_most: int) -> None:
        """Raises StoreFull."""
        found = await asyncio.gather(*(self._queued(q, tenant) for q in self._queues.values()))
        queued, mine = (sum(counts) for counts in zip(*found, strict=True))
        if most and queued + messages > most:
            raise store_full(most, queued)
        if tenant_most and mine + messages > tenant_most:
            raise tenant_full(tenant, tenant_most, mine)

    async def _queued(self, queue: Queue, tenant: str) -> tuple[int, int]:
        """Messages without an outcome in one cell, of all tenants and of this one."""
        everybody, each = queue.keys.name("queued"), queue.keys.name("queued_by")
        queued = await answering(partial(self._client.get, everybody))
        mine = await answering(partial(self._client.hget, each, tenant))
        return int(queued or 0), int(mine or 0)
