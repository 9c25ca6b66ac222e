"""Puts a letter among the dead ones, as a settle does."""

from __future__ import annotations

import msgspec

from dispatcher.messages import Attempt
from dispatcher.store.opening import Store
from dispatcher.store.queue import Letter


async def bury(
    store: Store,
    message: str,
    body: bytes,
    status: str = "dead",
    code: str = "30008",
    history: tuple[Attempt, ...] = (),
    *,
    lane: str,
) -> None:
    """The later it is buried, the newer it is. Its batch is not known (any more)."""
    letter = Letter(lane, "bulk", status, code, "gone", None, history, 0, body)
    now_us = await store.inspector.now_us()
    await store.client.zadd(store.keys.name("dead"), {message: now_us})
    packed = msgspec.msgpack.encode(letter)
    await store.client.hset(store.keys.name("letters"), message, packed)
