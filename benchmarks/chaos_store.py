"""A store server of a chaos run: started, killed, stopped and started again here."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import redis.asyncio as aioredis
from redis.exceptions import RedisError

START_SECONDS = 30.0
DURABLE = (
    'save ""', "appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction",
    "repl-diskless-sync-delay 0", "enable-debug-command yes",
)  # fmt: skip
"""Lines of configuration that every server of a chaos run has."""


class Server:
    """A Valkey or Redis server with an append-only file in `folder`. With `clock` (libfaketime) its
    time can be moved."""

    def __init__(self, folder: Path, program: str, clock: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self.folder, self._program = folder, program
        self._time = folder.parent / "time"
        self._env = {**os.environ, **(movable(self._time) if clock else {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        own = (f"port {self._port}", f"dir {self.folder}", "bind 127.0.0.1", *DURABLE)
        file = self.folder.parent / "store.conf"
        file.write_text("\n".join([*own, ""]))
        with (self.folder.parent / "store.log").open("ab") as log:
            # Python ignores SIGXFSZ, and so does then the server: its writes fail instead.
            self._process = subprocess.Popen(
                [self._program, file], stdout=log, stderr=log, env=self._env, restore_signals=False
            )
        client = aioredis.Redis.from_url(self.url)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _answers(client):
                    await asyncio.sleep(0.05)
        finally:
            await client.aclose()

    def bound_files(self, more: int | None) -> None:
        """Let its files grow by so many bytes only, None for any."""
        largest = max(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        soft = hard if more is None else largest + more
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (soft, hard))

    def move_clock(self, seconds: int) -> None:
        """Have its clock differ from the machine's by so much."""
        self._time.write_text(f"{seconds:+d}s\n")

    def forget(self) -> None:
        """Delete what it has on disk."""
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """End it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Version(NamedTuple):
    """Of a server: "Valkey", its major number, "jemalloc-5.3.0"."""

    name: str
    major: int
    allocator: str


def version(program: str) -> Version:
    """What a program says that it is. Raises ValueError for one that is no server."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    except OSError as error:
        raise ValueError(f"{program}: {error.strerror}") from None
    found = re.match(r"(\w+) server v=(\d+)\..* malloc=(\S+)", told.stdout)
    if found is None:
        raise ValueError(f"{program} is neither a Redis nor a Valkey server")
    return Version(found[1], int(found[2]), found[3])


def find_faketime() -> str | None:
    """The library of Debian's package faketime; None where it is not installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else None


def movable(file: Path) -> dict[str, str]:
    """The environment of a process whose clock `file` moves."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("+0s\n")
    return {
        "LD_PRELOAD": find_faketime() or "",
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


async def _answers(client: aioredis.Redis) -> bool:
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
