"""What the aiohttp transport is kept for: proxies, as the environment names them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest

from dispatcher.exchange import Delivery
from dispatcher.transport import create
from dispatcher.transport.aiohttp_pool import AiohttpTransport
from dispatcher.transport.lean import LeanTransport
from tests.transport.client import Client
from tests.transport.server import Server

Serve = Callable[..., Awaitable[Server]]


@pytest.fixture
async def proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = await serve()
    monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    return server


async def test_a_request_goes_through_the_proxy(proxy: Server) -> None:
    client = Client(AiohttpTransport(2))
    try:
        for body in (b"one", b"two"):
            result = await client.ask("http://provider.invalid/in", body)
            assert result.delivery is Delivery.ANSWERED
    finally:
        await client.transport.close()
    assert proxy.bodies == [b"one", b"two"]
    raw = proxy.peers[0].raw
    assert raw.startswith(b"POST http://provider.invalid/in HTTP/1.1\r\n")
    assert base64.b64encode(b"user:word") in raw


async def test_but_not_to_hosts_that_are_exempt(
    proxy: Server, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = await serve()
    client = Client(AiohttpTransport(2))
    try:
        assert (await client.ask(server.url)).delivery is Delivery.ANSWERED
    finally:
        await client.transport.close()
    assert (len(server.bodies), len(proxy.bodies)) == (1, 0)


async def test_the_kind_decides_the_transport() -> None:
    lean, other = create("lean", 1), create("aiohttp", 1)
    assert isinstance(lean, LeanTransport)
    assert isinstance(other, AiohttpTransport)
    await asyncio.gather(lean.close(), other.close())
