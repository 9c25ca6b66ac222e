"""What callers of an HTTP transport can get wrong, and how it ends. Runs against both of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dispatcher.exchange import Delivery
from tests.transport.client import Client
from tests.transport.server import AUTHORITY, Server, silent

Serve = Callable[..., Awaitable[Server]]
MakeClient = Callable[..., Client]


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/", "http://[::1"]
)
async def test_a_url_that_is_none(client: MakeClient, url: str) -> None:
    result = await client().ask(url)
    assert (result.delivery, result.answer) == (Delivery.NOT_SENT, None)


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\0b"])
async def test_a_header_cannot_bring_another(serve: Serve, client: MakeClient, value: str) -> None:
    server = await serve()
    result = await client().ask(server.url, headers={"X": value})
    assert result.delivery is Delivery.NOT_SENT
    assert server.bodies == []


@pytest.mark.parametrize("tls", [False, True])
async def test_close_ends_every_send_once(serve: Serve, client: MakeClient, tls: bool) -> None:
    server = await serve(silent, tls=tls)
    sender = client(concurrency=3, ca_file=AUTHORITY)
    bodies = [b"<%d>" % number for number in range(10)]
    sends = [sender.send(server.url, body) for body in bodies]
    async with asyncio.timeout(5):
        while len(server.bodies) < 3:
            await asyncio.sleep(0.005)
        await sender.transport.close()
        results = await asyncio.gather(*sends)
    for body, result in zip(bodies, results, strict=True):
        assert result.delivery is (Delivery.UNKNOWN if body in server.bodies else Delivery.NOT_SENT)
    assert len(server.bodies) == 3
    sender.assert_once()


async def test_close_at_once_and_after(serve: Serve, client: MakeClient) -> None:
    server = await serve()
    sender = client()
    early = [sender.send(server.url) for _ in range(3)]
    await sender.transport.close()
    late = sender.send(server.url)
    async with asyncio.timeout(5):
        for result in await asyncio.gather(*early, late):
            assert result.delivery is Delivery.NOT_SENT
    await sender.transport.close()
    assert server.bodies == []
    sender.assert_once()
