"""How full the memory of the store is: ingest stops before there is none left."""

from __future__ import annotations

import time

import redis.asyncio as aioredis
from redis import exceptions

from dispatcher.errors import StoreFull
from dispatcher.store.trouble import unavailable

FULL_SHARE = 0.85
"""Share of `maxmemory` from which nothing new is taken: what is queued needs room to be sent."""
LOOK_SECONDS = 1.0


class Memory:
    """Looks at most once a second, however often it is asked. A server without `maxmemory`, or that
    does not tell, is never full."""

    def __init__(self, client: aioredis.Redis) -> None:
        self._client = client
        self._look_at = 0.0
        self._share = 0.0

    async def check(self) -> None:
        """Raises StoreFull, StoreUnavailable."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._share = await self._used()
        if self._share >= FULL_SHARE:
            percent = f"{self._share:.0%} of maxmemory are in use"
            raise StoreFull(f"{percent}, messages are taken below {FULL_SHARE:.0%}")

    async def _used(self) -> float:
        try:
            found = await self._client.info("memory")
        except exceptions.NoPermissionError:
            self._look_at = float("inf")
            return 0.0
        except (exceptions.RedisError, OSError, TimeoutError) as error:
            raise unavailable(error, "memory") from None
        most = int(found.get("maxmemory", 0))
        used = int(found["used_memory"]) - int(found.get("mem_not_counted_for_evict", 0))
        return used / most if most else 0.0
