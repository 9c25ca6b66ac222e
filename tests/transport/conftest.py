from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from dispatcher.transport.aiohttp_pool import AiohttpTransport
from dispatcher.transport.lean import LeanTransport
from tests.transport.client import Client
from tests.transport.server import Script, Server, polite


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test of this folder runs on both loops: they differ in when and how they write."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def ends() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def serve(ends: AsyncExitStack) -> Callable[..., Awaitable[Server]]:
    async def start(script: Script = polite, *, tls: bool = False) -> Server:
        server = Server(script, tls=tls)
        await server.start()
        ends.push_async_callback(server.stop)
        return server

    return start


@pytest.fixture(params=["lean", "aiohttp"])
def client(request: pytest.FixtureRequest, ends: AsyncExitStack) -> Callable[..., Client]:
    """Makes a client on each of the two transports."""
    kind: Any = {"lean": LeanTransport, "aiohttp": AiohttpTransport}[request.param]
    return _maker(kind, ends)


@pytest.fixture
def lean(ends: AsyncExitStack) -> Callable[..., Client]:
    """Makes a client on the lean transport."""
    return _maker(LeanTransport, ends)


def _maker(kind: Any, ends: AsyncExitStack) -> Callable[..., Client]:
    def make(concurrency: int = 4, **options: Any) -> Client:
        client = Client(kind(concurrency, **options))
        ends.push_async_callback(client.transport.close)
        return client

    return make
