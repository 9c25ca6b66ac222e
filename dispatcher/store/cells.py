"""Several cells: each has its own hash tag, so that a cluster keeps it on a node of its own.

A provider lives in one cell with all its lanes, queues and limits. Batches have a hash in every
cell that has messages of them; the one in the main cell knows all accepted parts. What reads or
writes over all cells has the same names as what does it in one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import redis.asyncio as aioredis

from dispatcher.store.inspector import Inspector
from dispatcher.store.keys import Keys
from dispatcher.store.queue import Queue
from dispatcher.store.spreading import SpreadQueue


class Cell(NamedTuple):
    """One cell of an open store, with the same parts. The clients are the store's."""

    keys: Keys
    client: aioredis.Redis
    blocking: aioredis.Redis
    queue: Queue
    inspector: Inspector
    confirming: aioredis.Redis | None = None

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
        name: Cell(
            own,
            client,
            blocking,
            Queue(client, own, confirming),
            Inspector(client, own),
            confirming,
        )
        for name, own in keys.all().items()
    }


def open_queue(
    client: aioredis.Redis, keys: Keys, confirming: aioredis.Redis | None = None
) -> Queue:
    """What enqueues into every cell; `keys` are those of the main one, `confirming` as in Queue."""
    kind = SpreadQueue if keys.several else Queue
    return kind(client, keys, confirming)
