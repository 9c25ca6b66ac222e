"""The pool of the lean transport: what it keeps, what it opens, when it writes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable

import pytest

from dispatcher.exchange import Delivery, HttpRequest, Result
from dispatcher.transport import pool
from dispatcher.transport.connection import Connection
from tests.transport.client import Client
from tests.transport.server import AUTHORITY, OK, Peer, Server, answers, polite, silent

Serve = Callable[..., Awaitable[Server]]
MakeClient = Callable[..., Client]

HEAD = b"HTTP/1.1 200 OK\r\n"


def state(client: Client) -> str:
    """What the only pool says of itself, behind its origin."""
    return repr(client.transport).removesuffix(">]>").split(": ", 1)[1]


async def settle(client: Client, wanted: str) -> None:
    """Wait until the pool is in this state."""
    async with asyncio.timeout(5):
        while state(client) != wanted:
            await asyncio.sleep(0.005)


async def test_the_pool_shows_its_state(serve: Serve, lean: MakeClient) -> None:
    server = await serve(silent)
    client = lean(concurrency=2)
    for _ in range(3):
        client.send(server.url, timeout=0.3)
    assert repr(client.transport) == (
        f"<LeanTransport [<Pool http://127.0.0.1:{server.port}: "
        "0 busy, 0 idle, 2 connecting, 3 waiting>]>"
    )
    await settle(client, "2 busy, 0 idle, 0 connecting, 1 waiting")
    await settle(client, "0 busy, 0 idle, 0 connecting, 0 waiting")
    client.assert_once()
    server.script = polite
    await client.ask(server.url)
    assert state(client) == "0 busy, 1 idle, 0 connecting, 0 waiting"
    await client.transport.close()
    assert state(client) == "0 busy, 0 idle, 0 connecting, 0 waiting"


async def test_an_idle_connection_takes_a_request_inside_send(
    serve: Serve, lean: MakeClient
) -> None:
    server = await serve()
    client = lean()
    await client.ask(server.url)
    client.send(server.url)
    assert state(client) == "1 busy, 0 idle, 0 connecting, 0 waiting"


async def test_requests_that_wait_go_in_order(serve: Serve, lean: MakeClient) -> None:
    server = await serve()
    client = lean(concurrency=1)
    bodies = [b"%d" % number for number in range(30)]
    await client.ask_all(server.url, bodies)
    assert server.bodies == bodies
    assert len(server.peers) == 1


async def test_each_origin_has_its_own_connections(serve: Serve, lean: MakeClient) -> None:
    one, other = await serve(), await serve()
    client = lean(concurrency=1)
    await client.ask(one.url)
    await client.ask(other.url)
    await client.ask(one.url + "?page=2")
    assert (len(one.peers), len(other.peers)) == (1, 1)
    assert repr(client.transport).count("<Pool ") == 2


async def test_few_connections_are_opened_at_a_time(serve: Serve, lean: MakeClient) -> None:
    server = await serve()
    client = lean(concurrency=1000)
    sends = [client.send(server.url) for _ in range(100)]
    assert state(client) == "0 busy, 0 idle, 32 connecting, 100 waiting"
    assert {result.delivery for result in await asyncio.gather(*sends)} == {Delivery.ANSWERED}


async def test_failed_connections_back_off(
    serve: Serve, lean: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    await server.stop()
    client = lean()
    with caplog.at_level(logging.WARNING, "dispatcher.transport.pool"):
        for _ in range(3):
            await client.ask(server.url)
        client.send(server.url)
        assert state(client) == "0 busy, 0 idle, 0 connecting, 1 waiting"
    assert len(caplog.records) == 3
    assert f"127.0.0.1:{server.port}: no connection: " in caplog.text


async def test_a_server_that_hangs_up_on_every_connection_is_not_stormed(
    serve: Serve, lean: MakeClient
) -> None:
    async def hang_up(peer: Peer) -> None:
        peer.reset()

    server = await serve(hang_up)
    client = lean()
    for _ in range(3):
        result = await client.ask(server.url, timeout=0.5)
        assert (result.answer, result.reason) in ((None, "connect"), (None, "reset"))
    assert len(server.peers) <= 12


async def test_a_connection_that_speaks_first_carries_nothing(
    serve: Serve, lean: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "silent", lambda self: False)
    server = await serve()
    client = lean()
    for result in await client.ask_all(server.url, [b"x"] * 3, timeout=0.5):
        assert result == Result(Delivery.NOT_SENT, None, "connect")
    assert server.bodies == []


@pytest.mark.parametrize("extra", [OK, b"HTTP/1.1 2", b"garbage", b"\0"])
@pytest.mark.parametrize("late", [False, True])
async def test_bytes_nobody_asked_for_end_the_connection(
    serve: Serve, lean: MakeClient, late: bool, extra: bytes
) -> None:
    async def script(peer: Peer) -> None:
        body = await peer.read()
        answer = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        if late:
            await peer.write(answer)
            await asyncio.sleep(0.005)
            await peer.write(extra)
        else:
            await peer.write(answer + extra)
        await polite(peer)

    server = await serve(script)
    client = lean()
    for body in (b"one", b"two", b"three"):
        result = await client.ask(server.url, body)
        assert result.answer is not None
        assert result.answer.body == body
        await settle(client, "0 busy, 0 idle, 0 connecting, 0 waiting")
    assert len(server.peers) == 3


async def test_an_answer_before_the_request_is_read_ends_the_connection(
    serve: Serve, lean: MakeClient
) -> None:
    async def script(peer: Peer) -> None:
        await peer.write_slowly([b"", b"", OK])
        await asyncio.Event().wait()

    server = await serve(script)
    client = lean()
    result = await client.ask(server.url, b"x" * (32 << 20))
    assert result.delivery in (Delivery.ANSWERED, Delivery.NOT_SENT)
    await settle(client, "0 busy, 0 idle, 0 connecting, 0 waiting")


async def test_a_large_request_arrives_whole(serve: Serve, lean: MakeClient) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.write(HEAD + b"Content-Length: 8\r\n\r\n%08d" % len(await peer.read()))

    server = await serve(script)
    client = lean()
    for size in (8_000_000, 3):
        answer = (await client.ask(server.url, b"x" * size)).answer
        assert answer is not None
        assert answer.body == b"%08d" % size
    assert len(server.peers) == 1


async def test_an_idle_connection_is_given_up_before_the_server_does(
    serve: Serve, lean: MakeClient
) -> None:
    raw = HEAD + b"Keep-Alive: max=100, timeout=1\r\nContent-Length: 0\r\n\r\n"
    server = await serve(answers(raw))
    client = lean()
    await client.ask(server.url)
    assert state(client).startswith("0 busy, 1 idle")
    await settle(client, "0 busy, 0 idle, 0 connecting, 0 waiting")


async def test_an_old_connection_is_replaced(
    serve: Serve, lean: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LIFETIME_SECONDS", 0.0)
    server = await serve()
    client = lean()
    for _ in range(3):
        assert (await client.ask(server.url)).delivery is Delivery.ANSWERED
    assert [len(peer.bodies) for peer in server.peers] == [1, 1, 1]


async def test_a_connection_idle_for_long_is_looked_at_first(
    serve: Serve, lean: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has closed, and the event loop has had no chance to notice."""
    monkeypatch.setattr(pool, "FRESH_SECONDS", 0.0)
    server = await serve()
    client = lean()
    await client.ask(server.url)
    await asyncio.sleep(0.01)
    number = server.peers[0].writer.get_extra_info("socket").fileno()
    with socket.socket(fileno=os.dup(number)) as end:
        end.shutdown(socket.SHUT_WR)
    result = await client.ask(server.url, b"second")
    assert result.answer is not None
    assert result.answer.body == b"second"
    assert [len(item.bodies) for item in server.peers] == [1, 1]


async def test_a_connection_idle_for_long_goes_with_one_that_gets_no_answer(
    serve: Serve, lean: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something on the way has forgotten all connections: not each of them needs to find out."""
    monkeypatch.setattr(pool, "FRESH_SECONDS", 0.0)
    forgotten: set[int] = set()

    async def script(peer: Peer) -> None:
        while True:
            await peer.read()
            if peer.number not in forgotten:
                await peer.write(OK)

    server = await serve(script)
    client = lean()
    await client.ask_all(server.url, [b"one", b"two", b"three"])
    forgotten |= {peer.number for peer in server.peers}
    assert (await client.ask(server.url, timeout=0.1)).delivery is Delivery.UNKNOWN
    await settle(client, "0 busy, 0 idle, 0 connecting, 0 waiting")
    assert (await client.ask(server.url)).delivery is Delivery.ANSWERED


async def test_a_loop_that_stood_still_reads_before_it_gives_up(
    serve: Serve, lean: MakeClient
) -> None:
    """An answer comes while a callback of another connection blocks the loop."""
    server = await serve(silent)
    client = lean()
    send = client.send(server.url, timeout=0.3)
    async with asyncio.timeout(5):
        while not server.bodies:
            await asyncio.sleep(0.005)
    number = server.peers[0].writer.get_extra_info("socket").fileno()

    def block(result: Result) -> None:
        os.write(number, OK)
        time.sleep(pool.STALL_SECONDS + 0.2)

    server.script = polite
    client.transport.send(HttpRequest("POST", server.url, {}, b"other", 5.0), block)
    assert (await send).delivery is Delivery.ANSWERED


async def test_a_tls_session_is_resumed(serve: Serve, lean: MakeClient) -> None:
    server = await serve(answers(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")), tls=True)
    client = lean(ca_file=AUTHORITY)
    for _ in range(3):
        assert (await client.ask(server.url)).delivery is Delivery.ANSWERED
    reused = [p.writer.get_extra_info("ssl_object").session_reused for p in server.peers]
    assert reused == [False, True, True]


async def test_a_result_that_cannot_be_taken_harms_nobody_else(
    serve: Serve, lean: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(result: Result) -> None:
        raise RuntimeError("no room")

    server = await serve()
    client = lean(concurrency=1)
    client.transport.send(HttpRequest("POST", server.url, {}, b"first", 5.0), fail)
    result = await client.ask(server.url, b"second")
    assert result.delivery is Delivery.ANSWERED
    assert len(server.peers) == 1
    assert "no room" in caplog.text


async def test_it_closes_whatever_connections_are_being_opened(
    serve: Serve, lean: MakeClient
) -> None:
    """An event loop need not say of a connection that it is gone when it was cancelled as it
    opened."""
    server = await serve(silent)
    for turns in range(12):
        client = lean()
        client.send(server.url)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await client.transport.close()
        assert state(client) == "0 busy, 0 idle, 0 connecting, 0 waiting"
