"""The way to the store, which may come later than the first call, and go away in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from dispatcher.engine.outage import Outage
from dispatcher.errors import StoreFull, StoreUnavailable
from dispatcher.store.cells import open_queue
from dispatcher.store.gathering import gather
from dispatcher.store.opening import Store
from dispatcher.store.queue import Queue
from dispatcher.store.submissions import Submissions

LOOKUPS_AT_ONCE = 48
"""Lookups under way at the same time: fewer than the store's client has connections."""


CALLS, ROOM = "calls", "room"
"""Of the outage: calls get no answer from the store, or it has no room for more messages."""
WHOLE = ""
"""In the place of the cell: errors of a store that is one server name none."""


class Opened(NamedTuple):
    """The open store; `queue` and `submissions` gather the commands of different calls."""

    store: Store
    queue: Queue
    submissions: Submissions


class Gate:
    """Lets calls through to the store once it is open."""

    def __init__(self) -> None:
        self.outage = Outage()
        self._opened: Opened | None = None
        self._places = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    def open(self, store: Store) -> None:
        """Calls may come."""
        client, keys = gather(store.client), store.keys
        queue = open_queue(client, keys, store.confirming)
        self._opened = Opened(store, queue, Submissions(client, keys))

    def close(self) -> None:
        """The store is no more."""
        self._opened = None

    @property
    def is_open(self) -> bool:
        """Whether calls may come."""
        return self._opened is not None

    @property
    def opened(self) -> Opened:
        """The open store, for what needs no connection of its own. Raises StoreUnavailable."""
        if self._opened is None:
            raise StoreUnavailable("store has not answered yet")
        return self._opened

    def failed(self, error: StoreUnavailable) -> None:
        """A call got no answer from the store, or found no room."""
        role = ROOM if isinstance(error, StoreFull) else CALLS
        self.outage.of(error.cell).failed(role, error)

    def answered(self, *cells: str) -> None:
        """These cells answer calls."""
        for cell in (WHOLE, *cells) if self.outage.reason else ():
            self.outage.of(cell).answered(CALLS)

    def accepted(self, *cells: str) -> None:
        """These cells have taken messages."""
        self.answered(*cells)
        for cell in (WHOLE, *cells) if self.outage.reason else ():
            self.outage.of(cell).answered(ROOM)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[Opened]:
        """The open store, for one lookup. Raises StoreUnavailable."""
        async with self._places:
            yield self.opened
