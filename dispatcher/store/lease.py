"""A role that one process of many has at a time."""

from __future__ import annotations

import secrets

import redis.asyncio as aioredis

from dispatcher.store.keys import Keys
from dispatcher.store.scripts import Script


class Lease:
    """The lease of a role, as one candidate sees it. All raise StoreUnavailable: then it may have
    the lease or not."""

    def __init__(self, client: aioredis.Redis, keys: Keys, role: str) -> None:
        self._hold = Script(client, keys, "hold")
        self._key = keys.name("lease", role)
        self._candidate = secrets.token_hex(8)

    async def hold(self, seconds: float) -> bool:
        """Take the lease, or renew it, for so long; False while another has it."""
        return int(await self._hold(self._key, self._candidate, round(seconds * 1000))) == 1

    async def give_up(self) -> None:
        """Leave it to others at once."""
        await self._hold(self._key, self._candidate, 0)
