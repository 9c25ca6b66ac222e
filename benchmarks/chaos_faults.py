"""The faults of the chaos benchmark: what each does to a run, and what may come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import NamedTuple

from benchmarks.chaos_rig import LEASE_SECONDS, Setting, Site

Inject = Callable[[Site, Random], Awaitable[None]]


class Fault(NamedTuple):
    """`inject` returns when the trouble is over. Each of `killed` workers may have sent what it was
    granted last and could not settle. `within`: seconds until all is well again, where asked for.
    `explained`: why this one may lose messages, or have them sent twice, without bound."""

    what: str
    inject: Inject
    setting: Setting = Setting()
    killed: int = 0
    within: float | None = None
    explained: str = ""


async def kill_worker(site: Site, random: Random) -> None:
    """SIGKILL the worker that holds most."""
    site.kill(await site.busiest())


async def restart_store(site: Site, random: Random) -> None:
    """kill -9, and a start one second later."""
    site.server.kill()
    await asyncio.sleep(1)
    await site.server.start()


async def cut(site: Site, random: Random) -> None:
    """Close all connections to the store, again and again for three seconds."""
    for _ in range(10):
        site.proxy.cut()
        await asyncio.sleep(random.uniform(0.1, 0.5))


PROXIED = Setting(proxied=True)

FAULTS = {
    "kill": Fault("a worker is killed (SIGKILL)", kill_worker, killed=1, within=LEASE_SECONDS + 2),
    "store-restart": Fault("the store is killed and starts again after 1 s", restart_store),
    "cut": Fault("connections to the store are cut ten times", cut, PROXIED),
}
