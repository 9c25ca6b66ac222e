"""How long every HTTP transport waits, and what it keeps. Runs against both of them."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from dispatcher.exchange import Delivery, Result
from tests.transport.client import Client, text
from tests.transport.server import OK, Peer, Server, polite, silent

Serve = Callable[..., Awaitable[Server]]
MakeClient = Callable[..., Client]

HEAD = b"HTTP/1.1 200 OK\r\n"


async def test_no_answer_in_time(serve: Serve, client: MakeClient) -> None:
    server = await serve(silent)
    sender = client()
    result = await sender.ask(server.url, timeout=0.2)
    assert result == Result(Delivery.UNKNOWN, None, "timeout")
    assert server.bodies == [b"hello"]
    server.script = polite
    assert text(await sender.ask(server.url, b"next")) == (200, b"next")


async def test_an_answer_that_trickles_is_too_late(serve: Serve, client: MakeClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.write(HEAD + b"Content-Length: 1000000\r\n\r\n")
        while True:
            await peer.write(b"x")
            await asyncio.sleep(0.01)

    server = await serve(script)
    result = await client().ask(server.url, timeout=0.2)
    assert result == Result(Delivery.UNKNOWN, None, "timeout")


async def test_what_finds_no_connection_in_time_is_not_sent(
    serve: Serve, client: MakeClient
) -> None:
    server = await serve(silent)
    sender = client(concurrency=2)
    first = [sender.send(server.url, body) for body in (b"a", b"b")]
    async with asyncio.timeout(5):
        while len(server.bodies) < 2:
            await asyncio.sleep(0.005)
    for result in await sender.ask_all(server.url, [b"c", b"d"], timeout=0.2):
        assert result == Result(Delivery.NOT_SENT, None, "timeout")
    await sender.transport.close()
    assert [result.delivery for result in await asyncio.gather(*first)] == [Delivery.UNKNOWN] * 2
    assert sorted(server.bodies) == [b"a", b"b"]
    sender.assert_once()


async def test_refused(client: MakeClient) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        sender = client()
        for result in await sender.ask_all(url, [b"x"] * 20):
            assert result == Result(Delivery.NOT_SENT, None, "connect")
    sender.assert_once()


async def test_unknown_host(client: MakeClient) -> None:
    result = await client().ask("http://nowhere.invalid/")
    assert result == Result(Delivery.NOT_SENT, None, "connect")


@pytest.mark.parametrize(
    ("connect_seconds", "timeout", "reason"), [(0.2, 10.0, "connect"), (10.0, 0.2, "timeout")]
)
async def test_never_accepted(
    client: MakeClient, connect_seconds: float, timeout: float, reason: str
) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        sender = client(connect_seconds=connect_seconds)
        result = await sender.ask(url, timeout=timeout)
    assert result == Result(Delivery.NOT_SENT, None, reason)


async def test_never_more_connections_than_allowed(serve: Serve, client: MakeClient) -> None:
    async def script(peer: Peer) -> None:
        while True:
            body = await peer.read()
            await asyncio.sleep(0.001)
            await peer.write(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    server = await serve(script)
    sender = client(concurrency=4)
    bodies = [b"%d" % number for number in range(100)]
    results = await sender.ask_all(server.url, bodies)
    assert [text(result) for result in results] == [(200, body) for body in bodies]
    assert server.most == 4
    sender.assert_once()


async def test_a_connection_that_died_idle_is_replaced(serve: Serve, client: MakeClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.write(OK)

    server = await serve(script)
    sender = client()
    for number in range(5):
        assert text(await sender.ask(server.url)) == (200, b"ok")
        await asyncio.sleep(0.02)
        assert len(server.bodies) == number + 1
    assert len(server.peers) == 5


async def test_a_server_that_closes_while_a_request_is_on_its_way(
    serve: Serve, client: MakeClient
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.write(OK)
        peer.reset()

    server = await serve(script)
    sender = client(concurrency=8)
    bodies = [b"<%d>" % number for number in range(200)]
    results = []
    for first in range(0, 200, 8):
        results += await sender.ask_all(server.url, bodies[first : first + 8])
    seen = Counter(server.bodies)
    for body, result in zip(bodies, results, strict=True):
        assert seen[body] <= 1, "never sent twice"
        if result.delivery is Delivery.NOT_SENT:
            assert seen[body] == 0
        if result.delivery is Delivery.ANSWERED:
            assert seen[body] == 1
    sender.assert_once()


@pytest.mark.parametrize("extra", [OK.replace(b"ok", b"no"), b"HTTP/1.1 2", b"garbage", b"\0" * 9])
async def test_what_comes_behind_an_answer_is_no_answer(
    serve: Serve, client: MakeClient, extra: bytes
) -> None:
    """Neither to the request before nor to the next one."""

    async def script(peer: Peer) -> None:
        body = await peer.read()
        await peer.write(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body) + extra)
        await polite(peer)

    server = await serve(script)
    sender = client()
    for body in (b"one", b"two", b"three"):
        result = await sender.ask(server.url, body)
        assert result.delivery is Delivery.UNKNOWN or text(result) == (200, body)
    sender.assert_once()
