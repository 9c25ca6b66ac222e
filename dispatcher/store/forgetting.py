"""Forgets batches that were in several cells: in none of them before all are done.

Until then the main cell knows which parts were accepted and whose the batch is, and every cell
which messages came there: so a part that comes again adds nothing twice, however late.
"""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio as aioredis

from dispatcher.settings import MAIN_CELL
from dispatcher.store.cells_client import at_cell
from dispatcher.store.connection import answering
from dispatcher.store.keys import Keys
from dispatcher.store.scripts import Script

LOOKS = 2
"""How often all cells are asked: a message on its way may be missed in both, once."""


class Forgetting:
    """What one cell, `keys`, may forget."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._forget = Script(client, keys, "forget")

    async def forget(self, batches: Sequence[str], status_seconds: float) -> int:
        """Let those of these batches be forgotten after `status_seconds` that have no message left
        in any cell; the number. The main cell is the first to forget. Raises StoreUnavailable."""
        ended = await self._spread_here(batches)
        for _ in range(LOOKS):
            ended = await self._ended(ended)
        if not ended:
            return 0
        return int(await self._forget(self._keys.name("janitor"), int(status_seconds), *ended))

    async def _spread_here(self, batches: Sequence[str]) -> list[str]:
        found = await self._read(self._keys, batches)
        return [name for name, spread, left in found if spread and left <= 0]

    async def _ended(self, batches: Sequence[str]) -> list[str]:
        """Those that all other cells are done with."""
        ended = list(batches)
        for cell, keys in self._keys.all().items():
            if cell == self._keys.cell:
                continue
            found = await self._read(keys, ended)
            ended = [
                name
                for name, spread, left in found
                if left <= 0 and not (spread and cell == MAIN_CELL)
            ]
        return ended

    async def _read(self, keys: Keys, batches: Sequence[str]) -> list[tuple[str, bool, int]]:
        """Each batch, whether it is in several cells, and its messages without an outcome."""
        if not batches:
            return []
        pipeline = at_cell(self._client, keys.tag).pipeline(transaction=False)
        for batch in batches:
            pipeline.hmget(keys.name("batch", batch), "spread", "left")
        replies = await answering(pipeline.execute)
        return [
            (batch, spread is not None, int(left or 0))
            for batch, (spread, left) in zip(batches, replies, strict=True)
        ]
