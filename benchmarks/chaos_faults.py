"""The faults of the chaos benchmark: what each does to a run, and what may come of it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import NamedTuple

import redis.asyncio as aioredis

from benchmarks import faults
from benchmarks.arrivals import SLOT_SECONDS
from benchmarks.chaos_rig import END_SECONDS, LEASE_SECONDS, WORKERS, Setting, Site
from benchmarks.chaos_store import find_faketime

Inject = Callable[[Site, Random], Awaitable[None]]
TROUBLE_SECONDS = 3.0
"""How long a network or a provider is in trouble."""
STEP_SECONDS = SLOT_SECONDS + 0.15
"""A clock that steps ahead makes what was granted last look like long ago: it may be granted once
more."""
DEADLY = (
    "after_claim:5", "after_send:50", "after_answer:50", "before_settle:3", "after_settle:3",
    "before_leave",
)  # fmt: skip


class Fault(NamedTuple):
    """`inject` returns when the trouble is over. Each of `killed` workers may have sent what it was
    granted last and could not settle. `within`: seconds until all is well again, where asked for.
    `explained`: why this one may lose messages, or have them sent twice, without bound. `seconds`
    of messages, where it takes longer than others. `slack`: seconds of its rate a limit may let
    pass early. `needs` a program that may be missing."""

    what: str
    inject: Inject
    setting: Setting = Setting()
    killed: int = 0
    within: float | None = None
    explained: str = ""
    seconds: float = 0.0
    slack: float = SLOT_SECONDS
    needs: Callable[[], str | None] = lambda: ""

    def missing(self) -> str:
        """Why it cannot be inflicted on this machine; "" when it can."""
        return "" if self.needs() is not None else "it needs Debian's package faketime"


# Workers


async def kill(site: Site, random: Random) -> None:
    """SIGKILL the worker that holds most."""
    site.kill(await site.busiest())


async def kill_all(site: Site, random: Random) -> None:
    """SIGKILL all of them at once; others come as fast as they start."""
    for worker in list(site.workers):
        site.kill(worker.pid)
    for _ in range(WORKERS):
        site.spawn()


async def kill_supervisor(site: Site, random: Random) -> None:
    """SIGKILL the supervisor, whose workers drain then, and start another."""
    site.kill(site.workers[0].pid)
    site.spawn()


async def halt(seconds: float, site: Site, random: Random) -> None:
    """SIGSTOP the worker that holds most, for a while."""
    await faults.freeze(await site.busiest(), seconds)


async def wait(seconds: float, site: Site, random: Random) -> None:
    """Let happen what a failpoint does."""
    await asyncio.sleep(seconds)


async def roll(site: Site, random: Random) -> None:
    """Replace all workers, one after the other, each by one that is there before it leaves."""
    for old in list(site.workers):
        site.spawn()
        await site.registered(len(site.workers))
        old.send_signal(signal.SIGTERM)
        if code := await asyncio.to_thread(old.wait, END_SECONDS):
            site.wrong.append(f"a worker drained with {code}")
        site.workers.remove(old)


async def die_everywhere(site: Site, random: Random) -> None:
    """More workers come, and each of them dies at another failpoint."""
    doomed = {place: site.spawn(place) for place in DEADLY}
    deadline = time.monotonic() + END_SECONDS
    while sum(worker.poll() is None for worker in doomed.values()) > 1:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    site.struck = time.monotonic()
    for place, worker in doomed.items():
        worker.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(worker.wait, END_SECONDS)
        site.workers.remove(worker)
        if code != -signal.SIGKILL:
            site.wrong.append(f"{place}: ended with {code}")


# The store


async def restart_store(site: Site, random: Random) -> None:
    """kill -9, and a start one second later."""
    site.server.kill()
    await asyncio.sleep(1)
    await site.server.start()


async def lose_file(site: Site, random: Random) -> None:
    """The same, but what was on disk is gone."""
    site.server.kill()
    site.server.forget()
    await site.server.start()


async def halt_store(site: Site, random: Random) -> None:
    """SIGSTOP the server for 20 seconds."""
    await faults.freeze(site.server.pid, 20)


async def command(
    words: tuple[str, ...], times: int, pause: float, site: Site, random: Random
) -> None:
    """Give the server a command, so often."""
    client = aioredis.Redis.from_url(site.server.url, socket_timeout=60)
    try:
        for _ in range(times):
            await client.execute_command(*words)
            await asyncio.sleep(random.uniform(0, 2 * pause))
    finally:
        await client.aclose()


async def kill_clients(site: Site, random: Random) -> None:
    """CLIENT KILL of every connection, ten times."""
    client = aioredis.Redis.from_url(site.server.url)
    try:
        for _ in range(10):
            await faults.kill_clients(client)
            await asyncio.sleep(random.uniform(0, 0.4))
    finally:
        await client.aclose()


async def destroy_groups(site: Site, random: Random) -> None:
    """XGROUP DESTROY of the group of every queue."""
    await faults.destroy_groups(site.store.client, site.store.keys)


async def fill_memory(site: Site, random: Random) -> None:
    """maxmemory is what is used already."""
    await site.store.client.config_set("maxmemory", await site.memory())
    await asyncio.sleep(TROUBLE_SECONDS)
    await site.store.client.config_set("maxmemory", 0)


async def fill_disk(site: Site, random: Random) -> None:
    """The append-only file cannot grow."""
    site.server.bound_files(1000)
    await asyncio.sleep(TROUBLE_SECONDS)
    site.server.bound_files(None)


async def step_clock(seconds: int, site: Site, random: Random) -> None:
    """The clock of the store jumps, and later jumps back."""
    site.server.move_clock(seconds)
    await asyncio.sleep(TROUBLE_SECONDS)
    site.server.move_clock(0)
    await asyncio.sleep(TROUBLE_SECONDS)


# The way to the store


async def drop_replies(site: Site, random: Random) -> None:
    """One reply in twenty is lost, with its connection."""
    site.proxy.drop(0.05, random.randrange(1 << 30))
    await asyncio.sleep(TROUBLE_SECONDS)
    site.proxy.drop(0)


async def delay(seconds: float, site: Site, random: Random) -> None:
    """Everything takes so much longer, there and back."""
    site.proxy.delay = seconds
    await asyncio.sleep(TROUBLE_SECONDS)
    site.proxy.delay = 0.0


async def cut(site: Site, random: Random) -> None:
    """Close all connections to the store, again and again for three seconds."""
    for _ in range(10):
        site.proxy.cut()
        await asyncio.sleep(random.uniform(0.1, 0.5))


async def half_open(site: Site, random: Random) -> None:
    """Connections stay open and nothing passes; those of that time never work again."""
    site.proxy.freeze()
    await asyncio.sleep(TROUBLE_SECONDS)
    site.proxy.thaw()


# The provider


async def answer_badly(kind: str, site: Site, random: Random) -> None:
    """The provider takes requests and answers them badly."""
    site.sink.trouble(kind)
    await asyncio.sleep(TROUBLE_SECONDS)
    site.sink.trouble("none")


async def refuse(site: Site, random: Random) -> None:
    """The provider takes no connections."""
    site.sink.refuse(True)
    await asyncio.sleep(TROUBLE_SECONDS)
    site.sink.refuse(False)


PROXIED = Setting(proxied=True)
LONG = 2 * LEASE_SECONDS
GONE = "the store has forgotten what it acknowledged"

FAULTS = {
    "kill": Fault("a worker is killed", kill, killed=1, within=LEASE_SECONDS + 2),
    "kill-supervised": Fault(
        "a worker under the supervisor is killed", kill, Setting(supervised=True), 1, within=1.0
    ),
    "kill-all": Fault("all workers are killed, three others start", kill_all, killed=3),
    "kill-supervisor": Fault(
        "the supervisor is killed, another one starts", kill_supervisor, Setting(supervised=True)
    ),
    "failpoints": Fault(
        f"{len(DEADLY)} more workers die, each at another failpoint",
        die_everywhere, killed=len(DEADLY), seconds=15.0,
    ),
    "stop-short": Fault("a worker is stopped for half its lease", partial(halt, LEASE_SECONDS / 2)),
    "stop-long": Fault("a worker is stopped for twice its lease", partial(halt, LONG), killed=1),
    "blocked-loop": Fault(
        "the event loop of a worker is blocked for twice its lease", partial(wait, LONG),
        Setting(failpoint=f"after_answer:900:{LONG:g}"), killed=1,
    ),
    "rolling": Fault("workers are replaced one by one", roll, within=1.0),
    "store-restart": Fault("the store is killed and starts again after 1 s", restart_store),
    "store-stop": Fault("the store is stopped for 20 s", halt_store),
    "store-sleep": Fault(
        "DEBUG SLEEP for 5 s", partial(command, ("DEBUG", "SLEEP", "5"), 1, 0.0)
    ),
    "clients": Fault("every connection is closed by CLIENT KILL, ten times", kill_clients),
    "scripts": Fault(
        "SCRIPT FLUSH, ten times", partial(command, ("SCRIPT", "FLUSH"), 10, 0.2)
    ),
    "groups": Fault("XGROUP DESTROY of every queue", destroy_groups),
    "flush": Fault("FLUSHALL", partial(command, ("FLUSHALL",), 1, 0.0), explained=GONE),
    "file-lost": Fault("the store is killed and its file deleted", lose_file, explained=GONE),
    "memory": Fault("maxmemory is reached for 3 s", fill_memory),
    "disk": Fault("the append-only file cannot grow for 3 s (prlimit)", fill_disk),
    "clock-forward": Fault(
        "the store's clock jumps 1 min ahead, 3 s later back", partial(step_clock, 60),
        Setting(clock=True), slack=STEP_SECONDS, needs=find_faketime,
    ),
    "clock-back": Fault(
        "the store's clock jumps 1 min back, 3 s later ahead", partial(step_clock, -60),
        Setting(clock=True), slack=STEP_SECONDS, needs=find_faketime,
    ),
    "replies": Fault("one reply in 20 of the store is lost, for 3 s", drop_replies, PROXIED),
    "delay": Fault(
        "the store answers 30 ms later, for 3 s", partial(delay, 0.015), PROXIED
    ),
    "long-delay": Fault(
        "the store answers 100 ms later, for 3 s", partial(delay, 0.05), PROXIED
    ),
    "cut": Fault("connections to the store are cut ten times", cut, PROXIED),
    "half-open": Fault("connections to the store are half open for 3 s", half_open, PROXIED),
    "hang": Fault("the provider does not answer for 3 s", partial(answer_badly, "hang")),
    "reset": Fault(
        "the provider resets after one byte, for 3 s", partial(answer_badly, "reset")
    ),
    "500": Fault("the provider answers 500 for 3 s", partial(answer_badly, "500")),
    "garbage": Fault(
        "the provider answers what is not HTTP, for 3 s", partial(answer_badly, "garbage")
    ),
    "truncated": Fault(
        "the provider answers half a JSON body for 3 s", partial(answer_badly, "truncated")
    ),
    "partial": Fault(
        "the provider answers one of 20 messages for 3 s", partial(answer_badly, "partial"),
        Setting(batch=20),
    ),
    "refused": Fault("the provider refuses connections for 3 s", refuse),
}  # fmt: skip
