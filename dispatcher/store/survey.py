"""Reads the store as a whole: every lane and every limit, for overviews that are read again and
again.

A read costs a few round trips for hundreds of lanes and about 10 us of the store's time per lane,
in pieces short enough to hold up nobody. All methods raise StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import redis.asyncio as aioredis

from dispatcher.messages import CLASSES
from dispatcher.store.cells_client import at_cell
from dispatcher.store.connection import answering
from dispatcher.store.inspector import BreakerView, LaneView
from dispatcher.store.keys import Keys
from dispatcher.store.limit_views import LimitView, limit_view
from dispatcher.store.scripts import Script

PAGE = 200
"""Lanes or limits in one round trip, about: a millisecond or two of the store's time."""

_unpack_lanes = msgspec.msgpack.Decoder(list[tuple[Any, ...]]).decode
_unpack_limits = msgspec.msgpack.Decoder(list[tuple[str, list[str]]]).decode


class StoreView(NamedTuple):
    """The store as a whole. `workers` are those registered and when each gave its last sign (us),
    `sent` and `unfinished` the messages sent since the store began and those without an outcome,
    `letters` those dead or unknown; `leaving` are the entries on their way to another cell, whose
    messages are unfinished; memory in bytes, of `memory_most` (0: no bound)."""

    now_us: int
    workers: dict[str, int]
    sent: int
    unfinished: int
    letters: int
    leaving: int
    memory: int
    memory_most: int
    breakers: dict[str, BreakerView]


class Survey:
    """Read-only."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._client = at_cell(client, keys.tag)
        self._keys = keys
        self._lanes = Script(client, keys, "survey_lanes")
        self._limits = Script(client, keys, "survey_limits")

    async def lane_pages(self, provider: str) -> AsyncIterator[list[LaneView]]:
        """The lanes of a provider with the age of what waits. A lane may come twice, one that is
        listed meanwhile not at all."""
        name, cursor = self._keys.name("lanes", provider), b"0"
        while True:
            cursor, packed = await self._lanes(name, cursor, PAGE)
            yield [_lane(*item) for item in _unpack_lanes(packed)]
            if not int(cursor):
                return

    async def limit_pages(self) -> AsyncIterator[dict[str, LimitView]]:
        """The state of all limits ever written. A limit may come twice."""
        name, cursor = self._keys.name("limits"), b"0"
        while True:
            cursor, packed, now = await self._limits(name, cursor, PAGE)
            found = {limit: _fields(values) for limit, values in _unpack_limits(packed)}
            yield {
                limit: limit_view(limit, fields, int(now))
                for limit, fields in found.items()
                if "interval" in fields
            }
            if not int(cursor):
                return

    async def providers(self) -> set[str]:
        """Every provider that had messages."""
        name = self._keys.name("providers")
        return {item.decode() for item in await answering(partial(self._client.hkeys, name))}

    async def store(self, providers: Sequence[str]) -> StoreView:
        """What is no lane and no limit, with the breakers of these providers."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        pipeline.zrange(self._keys.name("workers"), 0, -1, withscores=True)
        pipeline.hget(self._keys.name("totals"), "sent")
        pipeline.get(self._keys.name("queued"))
        pipeline.zcard(self._keys.name("dead"))
        pipeline.hlen(self._keys.name("leaving"))
        pipeline.info("memory")
        for provider in providers:
            pipeline.hmget(self._keys.name("breaker", provider), "state", "until")
        replies = await answering(pipeline.execute)
        time, workers, sent, queued, letters, leaving, memory, *breakers = replies
        return StoreView(
            int(time[0]) * 1_000_000 + int(time[1]),
            {name.decode(): int(beat) for name, beat in workers},
            int(sent or 0),
            max(0, int(queued or 0)),
            int(letters),
            int(leaving),
            int(memory["used_memory"]),
            int(memory.get("maxmemory", 0)),
            {name: _breaker(*v) for name, v in zip(providers, breakers, strict=True)},
        )

    async def errors(self, lanes: Sequence[str]) -> dict[str, dict[str, int]]:
        """Lane → code → its messages that were not accepted for it."""
        pipeline = self._client.pipeline(transaction=False)
        for lane in lanes:
            pipeline.hgetall(self._keys.name("errors", lane))
        return {
            lane: {field.decode().removeprefix("error:"): int(n) for field, n in fields.items()}
            for lane, fields in zip(lanes, await answering(pipeline.execute), strict=True)
        }


def _lane(
    lane: str,
    limits: str,
    depth: Sequence[int],
    oldest_ms: Sequence[int],
    sent: int,
    retried: int,
    deferred: int,
    dead: int,
    until: int,
    paused: int,
    reason: str,
) -> LaneView:
    waiting = dict(zip(CLASSES, depth, strict=True))
    oldest = {name: ms * 1000 for name, ms in zip(CLASSES, oldest_ms, strict=True) if ms}
    names = tuple(limits.split())
    return LaneView(
        lane, names, waiting, sent, retried, dead, until, reason, paused, deferred, oldest
    )


def _fields(values: Sequence[str]) -> dict[str, str]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _breaker(state: bytes | None, until: bytes | None) -> BreakerView:
    return BreakerView((state or b"closed").decode(), int(until or 0))
