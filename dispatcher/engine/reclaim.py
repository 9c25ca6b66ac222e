"""Puts back at once what a worker held that is known to have ended.

Others may only guess that a silent worker is dead and must wait for its lease. Who has started a
process and seen it end knows: its workers carry a name part that no other process ever gets. A
process that has a worker start anew knows it of the former one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from dispatcher import metrics
from dispatcher.errors import DispatcherError
from dispatcher.settings import StoreConfig
from dispatcher.store.cells import Cell
from dispatcher.store.connection import answering, reach
from dispatcher.store.opening import Store, open_store

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds to wait for the store after a death; then the lease has to do."""
OPEN_PAUSE = 2.0
"""Seconds until a store that could not be opened is tried again."""
ROUNDS = 3


class Reclaimer:
    """Keeps the store open, so that nothing has to be opened first when a process dies."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._opened: asyncio.Future[Store] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Open the store, however long that takes, and keep it until cancelled."""
        while True:
            try:
                async with open_store(self._config, None) as store:
                    self._opened.set_result(store)
                    await asyncio.Event().wait()
            except DispatcherError as error:
                log.warning("%s; trying again", error)
                await asyncio.sleep(OPEN_PAUSE)

    async def put_back(self, member: str) -> None:
        """Put back what the ended process `member` held. A store that does not answer in time is
        a warning: other workers take over after the lease."""
        try:
            async with asyncio.timeout(PATIENCE):
                store = await asyncio.shield(self._opened)
                await reach(store.client, None)
                moved = await put_back(store, member)
        except (TimeoutError, DispatcherError) as error:
            reason = str(error) or "the store does not answer"
            log.warning("worker %s: others take over after the lease (%s)", member, reason)
        else:
            log.info("worker %s is gone: %d messages put back", member, moved)


async def put_back(store: Store, member: str) -> int:
    """Put back what the workers of a process that has ended hold; the number of messages. `member`
    is what it was given as `runtime.Worker(member=...)`. Raises StoreUnavailable, when all cells
    that answer are done."""
    cells = (
        _put_back_in(cell, lambda name: f".{member}." in name) for cell in store.cells.values()
    )
    found = await asyncio.gather(*cells, return_exceptions=True)
    moved = sum(item for item in found if isinstance(item, int))
    metrics.RECLAIMED.inc(moved)
    for item in found:
        if isinstance(item, BaseException):
            raise item
    return moved


async def put_back_former(cell: Cell, worker: str) -> int:
    """Put back what a worker of this process holds that sends nothing more, and has not left; the
    number of messages. Raises StoreUnavailable."""
    moved = await _put_back_in(cell, lambda name: name == worker)
    metrics.RECLAIMED.inc(moved)
    return moved


async def _put_back_in(cell: Cell, ended: Callable[[str], bool]) -> int:
    moved = 0
    for _ in range(ROUNDS):  # a heartbeat of its last moment may come in between
        beats = await _beats(cell, ended)
        if not beats:
            break
        for name, beat in beats.items():
            moved += await cell.queue.reclaim_dead(name, beat, 0) or 0
    return moved


async def _beats(cell: Cell, ended: Callable[[str], bool]) -> dict[str, str]:
    """The workers that have ended and their last heartbeats, as the store writes them."""
    name = cell.keys.name("workers")
    listed = await answering(partial(cell.client.zrange, name, 0, -1, withscores=True))
    beats = {worker.decode(): f"{beat:.0f}" for worker, beat in listed}
    return {worker: beat for worker, beat in beats.items() if ended(worker)}
