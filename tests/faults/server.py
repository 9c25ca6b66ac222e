"""A store server of a test's own, which may be killed, frozen, filled and made a replica."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import redis.asyncio as aioredis

from dispatcher.config import Config, load
from dispatcher.errors import StoreUnavailable
from dispatcher.simulator import Simulator
from dispatcher.store.embedded import find_server
from dispatcher.store.opening import open_store
from dispatcher.web.app import Api
from tests.campaign import Campaign, until
from tests.ports import free_port

SUBMISSION = {
    "channel": "sms",
    "from": "shop",
    "content": {"text": "Hi"},
    "class": "bulk",
    "recipients": [{"to": "+4915550000001"}],
}


class Server:
    """A server with its data in `folder`, on a port that it keeps when it is started again."""

    def __init__(
        self,
        folder: Path,
        program: str | None = None,
        *options: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.port, self._env = folder, free_port(), env
        self._command = [
            program or find_server(), "--port", str(self.port), "--bind", "127.0.0.1",
            "--dir", str(folder), "--appendonly", "yes", "--save", "",
            "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, env=self._env and {**os.environ, **self._env}
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("the server does not start")

    def kill(self) -> None:
        """With SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextmanager
    def running(self) -> Iterator[Server]:
        self.start()
        try:
            yield self
        finally:
            self.kill()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[aioredis.Redis]:
        async with aioredis.Redis(port=self.port) as client:
            yield client


class Troubled:
    """A campaign on a server of its own, with an API beside the worker."""

    def __init__(self, server: Server, run: Campaign, url: str, log: pytest.LogCaptureFixture):
        self.server, self.run, self.url, self._log = server, run, url, log
        self._http = aiohttp.ClientSession(url)

    async def close(self) -> None:
        await self._http.close()

    async def health(self, path: str) -> tuple[int, str]:
        """Status and body of a check."""
        async with self._http.get(path) as reply:
            return reply.status, await reply.text()

    async def unready(self) -> str:
        """Wait until the API says it is not ready; why."""

        async def seen() -> bool:
            return (await self.health("/readyz"))[0] == 503

        await until(seen)
        return (await self.health("/readyz"))[1]

    async def submit(self, key: str = "k1") -> tuple[int, str, str]:
        """Status, Retry-After and detail of a submit call."""
        headers = {"Idempotency-Key": key}
        async with self._http.post("/v1/messages", json=SUBMISSION, headers=headers) as reply:
            found = await reply.json(content_type=None)
            return reply.status, reply.headers.get("Retry-After", ""), found.get("detail", "")

    async def accepted(self, count: int) -> None:
        """Wait until the provider has so many."""

        async def there() -> bool:
            return self.run.simulator.counts.accepted >= count

        await until(there)

    async def finished(self, batch: str) -> dict[str, int]:
        """As of a campaign, over connections that may be lost."""
        while True:
            with suppress(StoreUnavailable):
                return await self.run.finished(batch)

    def lines(self, text: str) -> list[str]:
        """What was logged that holds this text."""
        return [line for line in self._log.messages if text in line]


@asynccontextmanager
async def troubled(
    server: Server, simulator: Simulator, toml: str, log: pytest.LogCaptureFixture
) -> AsyncIterator[Troubled]:
    """A campaign on a running server, and an API that has begun."""
    path = server.folder.parent / f"{server.port}.toml"
    path.write_text(f'[store]\nurl = "{server.url}"\n{toml}')
    config: Config = load(path, {})
    api = Api(config)
    async with open_store(config.store) as store:
        run = Campaign(config, store, simulator)
        found = Troubled(server, run, await api.start("127.0.0.1", 0), log)
        try:
            while (await found.health("/readyz"))[0] != 200:
                await asyncio.sleep(0.01)
            yield found
        finally:
            await found.close()
            await api.close()
