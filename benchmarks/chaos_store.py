"""A store server of a chaos run: started, killed, stopped and started again here."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
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
    """A Valkey or Redis server with an append-only file in `folder`; `env` is added to its
    environment."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self.folder = folder
        self._env = {**os.environ, **(env or {})}
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
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._env)
        client = aioredis.Redis.from_url(self.url)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _answers(client):
                    await asyncio.sleep(0.05)
        finally:
            await client.aclose()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


async def _answers(client: aioredis.Redis) -> bool:
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
