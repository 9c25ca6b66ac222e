"""What the faults of the chaos benchmark do to a run. Each returns when the trouble is over."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import redis.asyncio as aioredis
from redis.exceptions import ResponseError

from benchmarks import faults
from benchmarks.chaos_rig import END_SECONDS, WORKERS, Site
from tests.campaign import until
from tests.faults.nodes import Cluster, free_port

Inject = Callable[[Site, Random], Awaitable[None]]
TROUBLE_SECONDS = 3.0
"""How long a network or a provider is in trouble."""
DEADLY = (
    "after_claim:3", "after_send:5", "after_answer:5", "before_settle:1", "after_settle:1",
    "before_leave",
)  # fmt: skip


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


async def halt_all(seconds: float, site: Site, random: Random) -> None:
    """SIGSTOP all workers, as a machine that is suspended does."""
    await asyncio.gather(*(faults.freeze(worker.pid, seconds) for worker in site.workers))


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
    """More workers come, and each of them dies at another failpoint. The others stand still half of
    the time, for they leave little to workers that come later."""
    settled = list(site.workers)
    doomed = {place: site.spawn(place) for place in DEADLY}
    deadline = time.monotonic() + END_SECONDS
    while sum(worker.poll() is None for worker in doomed.values()) > 1:
        if time.monotonic() > deadline:
            break
        await asyncio.gather(*(faults.freeze(worker.pid, 0.5) for worker in settled))
        await asyncio.sleep(0.5)
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


async def rewrite_file(site: Site, random: Random) -> None:
    """BGREWRITEAOF, again and again for three seconds."""
    for _ in range(10):
        with suppress(ResponseError):  # the last one is not done yet
            await site.store.client.bgrewriteaof()
        await asyncio.sleep(random.uniform(0.1, 0.5))


async def stutter(site: Site, random: Random) -> None:
    """SIGSTOP the server for 0.3 s, ten times."""
    for _ in range(10):
        await faults.freeze(site.server.pid, 0.3)
        await asyncio.sleep(random.uniform(0.1, 0.5))


async def demote(site: Site, random: Random) -> None:
    """The server takes itself for a replica, of one that does not answer."""
    await faults.replicate(site.store.client, free_port())
    await asyncio.sleep(TROUBLE_SECONDS)
    await faults.promote(site.store.client)


async def shut_out(name: str, value: str | int, site: Site, random: Random) -> None:
    """Change a setting of the server with which nobody gets in, close all connections, and take
    it back later."""
    async with aioredis.Redis.from_url(site.server.url, single_connection_client=True) as client:
        before = (await client.config_get(name))[name]
        await client.config_set(name, value)
        await faults.kill_clients(client)
        await asyncio.sleep(TROUBLE_SECONDS)
        await client.config_set(name, before)


async def destroy_groups(site: Site, random: Random) -> None:
    """XGROUP DESTROY of the group of every queue."""
    await faults.destroy_groups(site.store.client, site.store.keys)


async def fill_memory(site: Site, random: Random) -> None:
    """maxmemory is what is used already."""
    await site.store.client.config_set("maxmemory", await site.memory())
    await asyncio.sleep(TROUBLE_SECONDS)
    await site.store.client.config_set("maxmemory", 0)


async def fill_disk(site: Site, random: Random) -> None:
    """Nothing fits on the disk any more."""
    async with faults.fill_disk(site.server.folder):
        await asyncio.sleep(TROUBLE_SECONDS)


async def bound_file(site: Site, random: Random) -> None:
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


async def lose_master(behind: float, site: Site, random: Random) -> None:
    """SIGKILL the master when its replica has heard nothing for so many seconds, wait until that
    has taken over, and start the old one again."""
    master, replica = await site.nodes.pair()
    cut = time.monotonic()
    if behind:
        replica.process.send_signal(signal.SIGSTOP)
        await master.ask("CLIENT", "KILL", "TYPE", "replica")
        await asyncio.sleep(behind)
    master.process.kill()
    site.struck = time.monotonic()
    site.behind = site.struck - cut
    replica.process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(master.process.wait)
    await until(lambda: site.nodes.serves(replica))
    master.begin()
    await until(master.answers)


async def move_slot(at_once: bool, site: Site, random: Random) -> None:
    """Have another master serve the cell."""
    assert isinstance(site.nodes, Cluster)
    source, _ = await site.nodes.pair()
    target = next(node for node in site.nodes.masters if node is not source)
    if at_once:
        await site.nodes.move_at_once(source, target)
    else:
        await site.nodes.move(source, target, pause=1.0)


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


async def ignore(site: Site, random: Random) -> None:
    """Connections to the provider stay open and nothing passes; those of that time never work
    again."""
    site.sink.deafen(True)
    await asyncio.sleep(TROUBLE_SECONDS)
    site.sink.deafen(False)


async def refuse(site: Site, random: Random) -> None:
    """The provider takes no connections."""
    site.sink.refuse(True)
    await asyncio.sleep(TROUBLE_SECONDS)
    site.sink.refuse(False)
