"""Which cells a store has: those of the configuration, and those that earlier ones named.

What waits in a cell does not leave it because a file names it no more. So the main cell remembers
where providers ever had their lanes, and whoever opens the store finds them there.
"""

from __future__ import annotations

from functools import partial

import redis.asyncio as aioredis

from dispatcher.settings import MAIN_CELL
from dispatcher.store.connection import answering
from dispatcher.store.keys import Keys
from dispatcher.store.scripts import Script


async def remembered(client: aioredis.Redis, keys: Keys) -> Keys:
    """The keys of the main cell with the places of the configuration (`keys` have no others) and,
    for providers that it does not name, those they had; the former are remembered. Raises
    StoreUnavailable."""
    name = keys.name("places")
    known = {item.decode() for item in await answering(partial(client.smembers, name))}
    placed = {f"{cell}/{provider}" for provider, cell in keys.places.items() if cell != MAIN_CELL}
    if new := sorted(placed - known):
        await Script(client, keys, "places")(name, *new)
    return _merged(keys, known)


def _merged(keys: Keys, known: set[str]) -> Keys:
    pairs = [item.split("/", 1) for item in sorted(known)]
    former = {provider: cell for cell, provider in pairs}
    in_use = {MAIN_CELL, *keys.places.values()}
    retired = dict.fromkeys(cell for cell, _ in pairs if cell not in in_use)
    return keys._replace(places={**former, **keys.places}, retired=tuple(retired))
