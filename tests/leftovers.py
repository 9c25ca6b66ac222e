"""What a run has left in the store, of all keys of a cell: for tests and benchmarks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import redis.asyncio as aioredis

from dispatcher.store.keys import Keys

LASTING = frozenset(
    {
        "control", "counter", "janitor", "limit", "limits", "workers", "bell", "breaker", "confirm",
        "lease", "totals", "providers", "places", "clock", "suspended", "resumed", "audit",
        "actions",
    }
)  # fmt: skip
"""Kinds of keys that stay whatever has gone through: one per cell, provider or limit."""
RETAINED = frozenset(
    {"lane", "fair", "batch", "status", "submit", "dead", "letters", "pair", "errors", "arrived"}
)
"""Kinds that stay for a while."""


async def leftovers(
    client: aioredis.Redis, keys: Keys, retained: frozenset[str] = RETAINED
) -> list[str]:
    """What should not be there when everything is sent, in words; kinds in `retained` may be. With
    an empty set nothing but LASTING keys may be left: every retention is over."""
    found = []
    live = await _workers(client, keys)
    async for kind, rest, name in _all(client, keys):
        if kind == "queue":
            found += await _of_queue(client, name, rest, live)
        elif kind == "held":
            found += await _of_held(client, name, rest, live)
        elif kind == "queued":
            value = await client.get(name)
            found += [f"queued: {value.decode()}"] if value not in (b"0", None) else []
        elif kind == "lanes":
            found += [f"lanes {rest}: {await client.zrange(name, 0, 9)}"]
        elif kind not in LASTING | retained:
            found.append(f"{kind} {rest}".strip())
    return sorted(found)


async def footprint(client: aioredis.Redis, keys: Keys) -> int:
    """Bytes of memory that the keys of a cell take."""
    total = 0
    async for _, _, name in _all(client, keys):
        total += int(await client.memory_usage(name, 0) or 0)
    return total


async def _of_queue(client: aioredis.Redis, name: bytes, queue: str, live: set[str]) -> list[str]:
    pending = await client.xpending(name, "workers")
    consumers = {item["name"].decode() for item in await client.xinfo_consumers(name, "workers")}
    gone = [f"consumer {consumer} of queue {queue}" for consumer in consumers - live]
    return [f"queue {queue}: {await client.xlen(name)} entries, {pending['pending']} held", *gone]


async def _of_held(client: aioredis.Redis, name: bytes, worker: str, live: set[str]) -> list[str]:
    fields = [field for field in await client.hkeys(name) if not field.startswith(b"#")]
    if fields or worker not in live:
        return [f"held {worker}: {len(fields)} entries"]
    return []


async def _workers(client: aioredis.Redis, keys: Keys) -> set[str]:
    return {name.decode() for name in await client.zrange(keys.name("workers"), 0, -1)}


async def _all(client: aioredis.Redis, keys: Keys) -> AsyncIterator[tuple[str, str, bytes]]:
    """Kind, rest and name of every key of the cell."""
    async for name in client.scan_iter(f"{keys.prefix}:*", 1000):
        kind, _, rest = name.decode().removeprefix(f"{keys.prefix}:").partition(f":{keys.tag}")
        yield kind, rest.removeprefix(":"), name
