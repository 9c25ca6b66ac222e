"""A store server of a chaos run: started, killed, stopped and started again here."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import subprocess
from pathlib import Path

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from dispatcher.store.embedded import find_server

START_SECONDS = 30.0
OPTIONS = (
    *("--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
    *("--maxmemory-policy", "noeviction", "--enable-debug-command", "yes"),
)


class Server:
    """A Valkey or Redis server with an append-only file in `folder`. With `clock` (libfaketime) its
    time can be moved."""

    def __init__(self, folder: Path, clock: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self.folder = folder
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
        command = [find_server(), "--port", str(self._port), "--dir", str(self.folder), *OPTIONS]
        with (self.folder.parent / "store.log").open("ab") as log:
            # Python ignores SIGXFSZ, and so does then the server: its writes fail instead.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._env, restore_signals=False
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
