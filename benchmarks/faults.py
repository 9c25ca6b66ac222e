"""Faults of a store, one small function each: what tests and benchmarks do to it.

Those that take a process id need a server on this machine; the others send what an operator, a
mistake or a cloud might.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import redis.asyncio as aioredis
from redis import exceptions

from dispatcher.store.keys import Keys

NO_LIMIT = 0
CHUNK = b"\0" * 65536


def kill_store(pid: int) -> None:
    """The process is gone at once, with what it had not given to the kernel."""
    os.kill(pid, signal.SIGKILL)


async def freeze(pid: int, seconds: float) -> None:
    """The process stands still: connections stay open and nothing is answered."""
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def sleep(client: aioredis.Redis, seconds: float) -> None:
    """The server is busy for so long with one command."""
    with suppress(exceptions.RedisError):  # the reply may come too late for this client
        await client.execute_command("DEBUG", "SLEEP", seconds)


async def kill_clients(client: aioredis.Redis) -> None:
    """Every connection but this one is closed."""
    for kind in ("normal", "pubsub"):
        await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def flush_scripts(client: aioredis.Redis) -> None:
    """The server forgets every script, as at a restart."""
    await client.script_flush()


async def flush_all(client: aioredis.Redis) -> None:
    """Everything stored is gone."""
    await client.flushall()


async def destroy_groups(client: aioredis.Redis, keys: Keys) -> int:
    """Every queue loses its group, and with it the list of what is pending; how many did."""
    destroyed = 0
    async for name in client.scan_iter(keys.name("queue", "*"), 1000):
        with suppress(exceptions.ResponseError):  # the queue was emptied meanwhile
            destroyed += int(await client.xgroup_destroy(name, "workers"))
    return destroyed


async def replicate(client: aioredis.Redis, port: int) -> None:
    """The server becomes a replica of one on this machine, as after a failover."""
    await client.execute_command("REPLICAOF", "127.0.0.1", port)


async def promote(client: aioredis.Redis) -> None:
    """The server takes writes again."""
    await client.execute_command("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def fill_memory(client: aioredis.Redis) -> AsyncIterator[None]:
    """`maxmemory` is less than what is in use."""
    await client.config_set("maxmemory", 1_000_000)
    try:
        yield
    finally:
        await client.config_set("maxmemory", NO_LIMIT)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size in memory, mounted on a new folder. Raises PermissionError where
    none may be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *command], capture_output=True).returncode:
        raise PermissionError("needs the right to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@asynccontextmanager
async def fill_disk(folder: Path) -> AsyncIterator[None]:
    """Nothing fits any more on the file system of this folder. Only for one made for it."""
    filler = folder / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), CHUNK)
    with filler.open("ab") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), b"\0")
    try:
        yield
    finally:
        filler.unlink()
