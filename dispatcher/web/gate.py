"""The way to the store, which may come later than the first call, and go away in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from dispatcher.errors import StoreUnavailable
from dispatcher.store.opening import Store
from dispatcher.store.submissions import Submissions

CALLS_AT_ONCE = 48
"""Calls that talk to the store at the same time: fewer than its client has connections."""


class Opened(NamedTuple):
    """The open store and the submit calls in it."""

    store: Store
    submissions: Submissions


class Gate:
    """Lets calls through to the store once it is open."""

    def __init__(self) -> None:
        self._opened: Opened | None = None
        self._places = asyncio.Semaphore(CALLS_AT_ONCE)

    def open(self, store: Store) -> None:
        """Calls may come."""
        self._opened = Opened(store, Submissions(store.client, store.keys))

    def close(self) -> None:
        """The store is no more."""
        self._opened = None

    @property
    def is_open(self) -> bool:
        """Whether calls may come."""
        return self._opened is not None

    @property
    def opened(self) -> Opened:
        """The open store, without waiting for a place. Raises StoreUnavailable."""
        if self._opened is None:
            raise StoreUnavailable("the store has not answered yet")
        return self._opened

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[Opened]:
        """The open store, for one call. Raises StoreUnavailable."""
        async with self._places:
            yield self.opened
