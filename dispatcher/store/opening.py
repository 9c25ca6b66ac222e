"""Opens the store of a configuration: embedded or remote, with all its cells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import redis.asyncio as aioredis

from dispatcher.settings import StoreConfig
from dispatcher.store.cells import Cell, SpreadQueue, open_cells
from dispatcher.store.connection import connect, reach
from dispatcher.store.embedded import EmbeddedStore
from dispatcher.store.inspector import Inspector
from dispatcher.store.joining import JoinedInspector
from dispatcher.store.keys import Keys
from dispatcher.store.queue import Queue
from dispatcher.toml import Secret

PATIENCE = 5.0
"""Seconds a command waits for an absent store."""


class Store(NamedTuple):
    """An open store. `client` is for short commands, `blocking` for reads that wait. `keys` are
    those of the main cell; `queue` accepts for all cells and `inspector` reads all of them; what
    concerns one lane is done in `cells`."""

    url: str
    keys: Keys
    client: aioredis.Redis
    blocking: aioredis.Redis
    queue: Queue
    inspector: Inspector
    cells: Mapping[str, Cell]

    def at(self, lane: str) -> Cell:
        """The cell of a lane, or of a provider."""
        return self.cells[self.keys.place(lane)]


@asynccontextmanager
async def open_store(
    config: StoreConfig, patience: float | None = PATIENCE
) -> AsyncIterator[Store]:
    """Join or connect; leave again at the end. `patience` None waits for ever.

    Raises StoreUnavailable when there is no answer in time, ConfigError where waiting is no use.
    """
    embedded = None
    if config.url == "embedded":
        embedded = await _join(Path(config.data_dir))
    url = embedded.url if embedded is not None else config.url
    options = {
        "username": _reveal(config.username),
        "password": _reveal(config.password),
        "tls_ca": config.tls_ca,
        "tls_cert": config.tls_cert,
        "tls_key": config.tls_key,
        "sentinel_username": _reveal(config.sentinel_username),
        "sentinel_password": _reveal(config.sentinel_password),
    }
    keys = Keys(config.prefix, places=config.places)
    client = connect(url, options, keys.tag)
    blocking = connect(url, options, keys.tag, blocking=True)
    try:
        await reach(client, patience)
        cells = open_cells(client, blocking, keys)
        main = cells[keys.cell]
        queue, inspector = main.queue, main.inspector
        if keys.places:
            queue, inspector = SpreadQueue(client, keys), JoinedInspector(client, keys)
        yield Store(url, keys, client, blocking, queue, inspector, cells)
    finally:
        await client.aclose()
        await blocking.aclose()
        if embedded is not None:
            embedded.close()


async def _join(data_dir: Path) -> EmbeddedStore:
    """Join in a thread. Cancelled, it waits for the thread and leaves the store again."""
    joining = asyncio.ensure_future(asyncio.to_thread(EmbeddedStore.join, data_dir))
    try:
        return await asyncio.shield(joining)
    except asyncio.CancelledError:
        (await joining).close()
        raise


def _reveal(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()
