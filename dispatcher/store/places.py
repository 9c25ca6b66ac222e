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
        cells = {item.partition("/")[0] for item in known}
        for cell in dict.fromkeys(item.partition("/")[0] for item in new):
            if cell not in cells:
                await _inherit(client, keys, cell)
        await Script(client, keys, "places")(name, *new)
    return _merged(keys, known)


async def _inherit(client: aioredis.Redis, keys: Keys, cell: str) -> None:
    """What operators have suspended is so in a new cell, too."""
    rules: list[bytes | str] = []
    for kind in ("suspended", "resumed"):
        found = await answering(partial(client.hgetall, keys.name(kind)))
        rules += (word for pattern, value in found.items() for word in (kind, pattern, value))
    if rules:
        number = int(await answering(partial(client.get, keys.name("control"))) or 0)
        own = keys._replace(cell=cell)
        await Script(client, own, "inherit")(own.name("suspended"), number, *rules)


def _merged(keys: Keys, known: set[str]) -> Keys:
    pairs = [item.split("/", 1) for item in sorted(known)]
    former = {provider: cell for cell, provider in pairs}
    in_use = {MAIN_CELL, *keys.places.values()}
    retired = dict.fromkeys(cell for cell, _ in pairs if cell not in in_use)
    return keys._replace(places={**former, **keys.places}, retired=tuple(retired))
