"""Opens the store of a configuration: embedded or remote, with all its cells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import redis.asyncio as aioredis

from dispatcher.errors import ConfigError, StoreUnavailable
from dispatcher.settings import StoreConfig
from dispatcher.store.cells import Cell, open_cells, open_queue
from dispatcher.store.confirming import confirm, question_for
from dispatcher.store.connection import connect, reach
from dispatcher.store.embedded import EmbeddedStore
from dispatcher.store.inspector import Inspector
from dispatcher.store.joining import JoinedInspector
from dispatcher.store.keys import Keys
from dispatcher.store.places import remembered
from dispatcher.store.queue import Queue
from dispatcher.toml import Secret

log = logging.getLogger(__name__)

T = TypeVar("T")
PATIENCE = 5.0
"""Seconds a command waits for an absent store."""
PAUSE = 2.0
"""Seconds until what a store did not do at the start is tried again."""
ATTEND_SECONDS = 2.0
"""How often a process looks whether the embedded store still has its keeper."""


class Store(NamedTuple):
    """An open store. `client` is for short commands, `blocking` for reads that wait, `confirming`
    for writes that must be safer than `client` makes them. `keys` are those of the main cell;
    `queue` accepts for all cells and `inspector` reads all of them; what concerns one lane is done
    in `cells`."""

    url: str
    keys: Keys
    client: aioredis.Redis
    blocking: aioredis.Redis
    queue: Queue
    inspector: Inspector
    cells: Mapping[str, Cell]
    confirming: aioredis.Redis | None = None

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
        embedded = await _patiently(partial(_join, config), patience)
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
    attending = None
    try:
        await reach(client, patience)
        if embedded is not None:
            attending = asyncio.create_task(_attend(embedded, (client, blocking)))
        keys = await _patiently(partial(remembered, client, keys), patience)
        question = await _patiently(partial(question_for, client, keys, config.confirm), patience)
        confirming = confirm(client, keys, question) if question else None
        cells = open_cells(client, blocking, keys, confirming)
        main = cells[keys.cell]
        queue, inspector = main.queue, main.inspector
        if keys.several:
            queue = open_queue(client, keys, confirming)
            inspector = JoinedInspector(client, keys)
        yield Store(url, keys, client, blocking, queue, inspector, cells, confirming)
    finally:
        if attending is not None:
            attending.cancel()
            await asyncio.wait([attending])
        await client.aclose()
        await blocking.aclose()
        if embedded is not None:
            embedded.close()


async def _patiently(ask: Callable[[], Awaitable[T]], patience: float | None) -> T:
    """The answer, with patience None asked for as often as it takes. Raises what `ask` does."""
    while True:
        try:
            return await ask()
        except StoreUnavailable as error:
            if patience is not None:
                raise
            log.warning("%s; waiting", error)
        await asyncio.sleep(PAUSE)


async def _attend(embedded: EmbeddedStore, clients: Iterable[aioredis.Redis]) -> None:
    """Start the server again when it is gone with its keeper, until cancelled."""
    while True:
        await asyncio.sleep(ATTEND_SECONDS)
        with suppress(StoreUnavailable, ConfigError):  # who uses the store says so
            await asyncio.to_thread(embedded.ensure, 1.0)
            for client in clients:
                client.connection_pool.connection_kwargs["path"] = embedded.address


async def _join(config: StoreConfig) -> EmbeddedStore:
    """Join in a thread. Cancelled, it waits for the thread and leaves the store again."""
    appendfsync = config.appendfsync or "everysec"
    join = partial(EmbeddedStore.join, Path(config.data_dir), appendfsync=appendfsync)
    joining = asyncio.ensure_future(asyncio.to_thread(join))
    try:
        return await asyncio.shield(joining)
    except asyncio.CancelledError:
        (await joining).close()
        raise


def _reveal(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()
