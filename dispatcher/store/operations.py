"""What operators change by hand: one script call each, in force on the whole backlog at once.

All raise StoreUnavailable when no answer came: the change may or may not have been made, and may be
made again.
"""

from __future__ import annotations

import redis.asyncio as aioredis

from dispatcher.store.keys import Keys
from dispatcher.store.scripts import Script

UNTIL_RESET = 0.0


class Operations:
    """The operator's scripts of one cell, typed."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._override = Script(client, keys, "override")

    async def set_limit(self, name: str, interval_us: float, seconds: float = UNTIL_RESET) -> bool:
        """Let one unit pass every `interval_us` whatever the configuration says, for `seconds` or
        until it is reset. False for a limit that is not in the store."""
        return await self._write(name, f"{interval_us:.6f}", seconds)

    async def reset_limit(self, name: str) -> bool:
        """Let the configuration decide again. False for a limit that is not in the store."""
        return await self._write(name, "", UNTIL_RESET)

    async def _write(self, name: str, interval: str, seconds: float) -> bool:
        key = self._keys.name("limit", name)
        return int(await self._override(key, name, interval, round(seconds * 1e6))) == 1
