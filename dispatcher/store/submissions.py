"""What the store remembers of submit calls: which batch a key stands for, whose a batch is, and
that it was cancelled. All methods raise StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import redis.asyncio as aioredis

from dispatcher.errors import DispatcherError
from dispatcher.store.connection import answering
from dispatcher.store.keys import Keys
from dispatcher.store.operations import Action, packed
from dispatcher.store.scripts import Script

KEPT_SECONDS = 24 * 3600
"""How long a key stands for its call."""
LOOKED_AT = 100
"""Scheduled entries one cancel script looks at."""


class KeyTaken(DispatcherError):
    """The key stands for a call with another body."""


class Fixed(NamedTuple):
    """What a key stands for: the batch, when its first call came (us), and the answer once there
    was one."""

    batch: str
    accepted_us: int
    answer: bytes


class Owner(NamedTuple):
    """Whose a batch is, and the fingerprint of its submission."""

    tenant: str
    options: str


class Submissions:
    """The submit calls; they and the owners of batches are kept in the main cell, `keys`."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._submit = Script(client, keys, "submit")
        self._cells = {
            cell: (own, Script(client, own, "cancel"), Script(client, own, "mark"))
            for cell, own in keys.all().items()
        }

    async def recall(self, tenant: str, key: str, check: str) -> Fixed | None:
        """What the key stands for, None for a new one. Raises KeyTaken."""
        name = self._name(tenant, key)
        fields = ["body", "batch", "at", "answer"]
        body, batch, at, answer = await answering(partial(self._client.hmget, name, fields))
        if body is None:
            return None
        if body.decode() != check:
            raise _taken(key)
        return Fixed(batch.decode(), int(at), answer or b"")

    async def fix(
        self, tenant: str, key: str, check: str, call: Fixed, seconds: int = KEPT_SECONDS
    ) -> Fixed:
        """Let the key stand for this call, or tell for which it already does; an answer is kept
        where there is none. Raises KeyTaken."""
        reply = await self._submit(
            self._name(tenant, key), check, call.batch, call.accepted_us, seconds, call.answer
        )
        if reply[0] == b"other":
            raise _taken(key)
        return Fixed(reply[1].decode(), int(reply[2]), reply[3])

    async def owner(self, batch: str) -> Owner | None:
        """None for an unknown batch."""
        name = self._keys.name("batch", batch)
        fields = ["tenant", "options"]
        tenant, options = await answering(partial(self._client.hmget, name, fields))
        return None if tenant is None else Owner(tenant.decode(), (options or b"").decode())

    async def cancel(
        self, batch: str, providers: Iterable[str], action: Action | None = None
    ) -> bool:
        """Cancel what is not sent, wherever it waits; workers write the outcomes as they reach it.
        `action` where an operator does it. False for an unknown batch."""
        noted = packed(action)
        served: dict[str, list[str]] = {cell: [] for cell in self._cells}
        for provider in providers:
            served[self._keys.place(provider)].append(provider)
        unknown = [
            cell for cell in served if not await self._cancel_in(cell, batch, served[cell], noted)
        ]
        if len(unknown) == len(served):
            return False
        for cell in unknown:  # messages on their way there must find the mark
            keys, _, mark = self._cells[cell]
            await mark(keys.name("batch", batch), KEPT_SECONDS)
        return True

    async def _cancel_in(
        self, cell: str, batch: str, providers: Iterable[str], noted: bytes
    ) -> bool:
        keys, cancel, _ = self._cells[cell]
        name, names, passed = keys.name("batch", batch), tuple(providers), 0
        while True:
            reply = await cancel(name, batch, passed, LOOKED_AT, noted, *names)
            if reply[0] == b"unknown":
                return False
            if reply[1] < LOOKED_AT:
                return True
            passed += reply[2]

    def _name(self, tenant: str, key: str) -> str:
        return self._keys.name("submit", f"{tenant}:{key}")


def _taken(key: str) -> KeyTaken:
    return KeyTaken(f"Idempotency-Key {key!r} stands for another body")
