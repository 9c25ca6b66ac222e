"""What every HTTP transport does, whatever the server does. Runs against both of them."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.exchange import Delivery, Result
from tests.transport.client import Client
from tests.transport.server import AUTHORITY, OK, Peer, Server, answers, polite, silent

Serve = Callable[..., Awaitable[Server]]
MakeClient = Callable[..., Client]

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def text(result: Result) -> tuple[int, bytes]:
    assert result.delivery is Delivery.ANSWERED, result
    assert result.answer is not None
    return result.answer.status, result.answer.body


# Answers


GOOD = {
    "length": (OK, 200, b"ok"),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "empty body": (HEAD + b"Content-Length: 0\r\n\r\n", 200, b""),
    "chunks": (CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, b"ok"),
    "chunks with extensions": (CHUNKED + b"2;a=b\r\nok\r\n0;c\r\n\r\n", 200, b"ok"),
    "chunks with trailers": (CHUNKED + b"2\r\nok\r\n0\r\nX-End: 1\r\n\r\n", 200, b"ok"),
    "after 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
    "after 103": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, 200, b"ok"),
    "no reason phrase": (b"HTTP/1.1 429 \r\nContent-Length: 2\r\n\r\nok", 429, b"ok"),
    "redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 2\r\n\r\nok",
        302,
        b"ok",
    ),
    "longest head": (HEAD + b"X: %b\r\nContent-Length: 2\r\n\r\nok" % (b"x" * 60_000), 200, b"ok"),
    "longest body": (
        HEAD + b"Content-Length: 1048576\r\n\r\n" + b"x" * (1 << 20),
        200,
        b"x" * (1 << 20),
    ),
}

GOOD_AND_CLOSED = {
    "connection close": (
        HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
    "until close": (HEAD + b"\r\nok", 200, b"ok"),
    "until close, said": (HEAD + b"Connection: close\r\n\r\nok", 200, b"ok"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nok", 200, b"ok"),
    "HTTP/1.0 with length": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
}


@pytest.mark.parametrize("label", GOOD)
async def test_an_answer_is_read_and_its_connection_kept(
    serve: Serve, client: MakeClient, label: str
) -> None:
    raw, status, body = GOOD[label]
    server = await serve(answers(raw))
    sender = client()
    for _ in range(2):
        assert text(await sender.ask(server.url)) == (status, body)
    assert len(server.peers) == 1
    sender.assert_once()


@pytest.mark.parametrize("label", GOOD_AND_CLOSED)
async def test_an_answer_is_read_and_its_connection_not_used_again(
    serve: Serve, client: MakeClient, label: str
) -> None:
    raw, status, body = GOOD_AND_CLOSED[label]
    server = await serve(answers(raw, close=True))
    sender = client()
    for _ in range(2):
        assert text(await sender.ask(server.url)) == (status, body)
    assert len(server.peers) == 2
    sender.assert_once()


async def test_headers_have_lower_case_names_and_are_no_trailers(
    serve: Serve, client: MakeClient
) -> None:
    raw = HEAD + b"Transfer-Encoding: chunked\r\nRetry-After: 7\r\n\r\n0\r\nRetry-After: 9\r\n\r\n"
    server = await serve(answers(raw))
    answer = (await client().ask(server.url)).answer
    assert answer is not None
    assert answer.headers["retry-after"] == "7"
    assert answer.headers.get("absent") is None


@given(data=st.data())
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_an_answer_may_be_cut_anywhere(
    serve: Serve, client: MakeClient, data: st.DataObject
) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD["chunks with trailers"][0]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1))))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    async def script(peer: Peer) -> None:
        while True:
            await peer.read()
            await peer.write_slowly(pieces)

    server = await serve(script)
    sender = client()
    for _ in range(2):
        assert text(await sender.ask(server.url)) == (200, b"ok")
    assert len(server.peers) == 1
    await sender.transport.close()
    await server.stop()


# Answers that are none


BAD = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 2",
    "half a head": HEAD + b"Content-Le",
    "half a body": HEAD + b"Content-Length: 4\r\n\r\nok",
    "half a chunk": CHUNKED + b"4\r\nok",
    "no last chunk": CHUNKED + b"2\r\nok\r\n",
    "only 100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "garbage": b"\x16\x03\x01 this is not HTTP\r\n\r\n",
    "wrong version": b"HTTP/9 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "length in words": HEAD + b"Content-Length: two\r\n\r\nok",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "negative length": HEAD + b"Content-Length: -2\r\n\r\nok",
    "chunk size in words": CHUNKED + b"zz\r\nok\r\n0\r\n\r\n",
    "long header": HEAD + b"X: %b\r\nContent-Length: 2\r\n\r\nok" % (b"x" * 70_000),
    "many headers": HEAD + b"X: %b\r\n" % (b"x" * 1000) * 90 + b"Content-Length: 2\r\n\r\nok",
    "long body": HEAD + b"Content-Length: 1048577\r\n\r\n" + b"x" * 1048577,
    "long chunks": CHUNKED + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 65 + b"0\r\n\r\n",
    "long body until close": HEAD + b"\r\n" + b"x" * 1048577,
    "switched protocol": b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("label", BAD)
async def test_what_is_no_whole_answer_leaves_the_outcome_unknown(
    serve: Serve, client: MakeClient, label: str
) -> None:
    server = await serve(answers(BAD[label], close=True))
    sender = client()
    result = await sender.ask(server.url)
    assert result.delivery is Delivery.UNKNOWN
    assert result.reason in ("reset", "protocol")
    server.script = polite
    assert text(await sender.ask(server.url, b"next")) == (200, b"next")
    assert server.bodies == [b"hello", b"next"]
    sender.assert_once()


@pytest.mark.parametrize("endless", [b"X-Filler: 0123456789abcdef\r\n", b"x" * 4096])
async def test_an_endless_head_is_cut_off(serve: Serve, client: MakeClient, endless: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.write(HEAD + b"A: ")
        while True:
            await peer.write(endless * 16)

    server = await serve(script)
    result = await client().ask(server.url)
    assert result.delivery is Delivery.UNKNOWN


async def test_reset_after_the_request(serve: Serve, client: MakeClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        peer.reset()

    server = await serve(script)
    assert await client().ask(server.url) == Result(Delivery.UNKNOWN, None, "reset")


async def test_closed_before_the_request_is_read(serve: Serve, client: MakeClient) -> None:
    async def script(peer: Peer) -> None:
        peer.reset()

    server = await serve(script)
    sender = client()
    for result in await sender.ask_all(server.url, [b"%d" % n for n in range(20)]):
        assert result.delivery in (Delivery.NOT_SENT, Delivery.UNKNOWN)
    sender.assert_once()


# Time


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


# Connections


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


# TLS


async def test_tls(serve: Serve, client: MakeClient) -> None:
    server = await serve(tls=True)
    sender = client(ca_file=AUTHORITY)
    bodies = [b"%d" % number for number in range(20)]
    results = await sender.ask_all(server.url, bodies)
    assert [text(result) for result in results] == [(200, body) for body in bodies]
    assert server.peers[0].writer.get_extra_info("ssl_object").selected_alpn_protocol() == (
        "http/1.1"
    )


async def test_tls_closed_in_the_middle(serve: Serve, client: MakeClient) -> None:
    server = await serve(answers(HEAD + b"Content-Length: 4\r\n\r\nok", close=True), tls=True)
    result = await client(ca_file=AUTHORITY).ask(server.url)
    assert (result.delivery, result.answer) == (Delivery.UNKNOWN, None)


async def test_tls_without_a_known_authority(serve: Serve, client: MakeClient) -> None:
    server = await serve(tls=True)
    assert await client().ask(server.url) == Result(Delivery.NOT_SENT, None, "connect")
    assert server.bodies == []


async def test_tls_with_another_name(serve: Serve, client: MakeClient) -> None:
    server = await serve(tls=True)
    url = server.url.replace("localhost", "127.0.0.1")
    result = await client(ca_file=AUTHORITY).ask(url)
    assert result == Result(Delivery.NOT_SENT, None, "connect")
    assert server.bodies == []


async def test_tls_to_a_server_that_has_none(serve: Serve, client: MakeClient) -> None:
    server = await serve(answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    url = server.url.replace("http:", "https:")
    result = await client(ca_file=AUTHORITY, connect_seconds=0.3).ask(url)
    assert result == Result(Delivery.NOT_SENT, None, "connect")


# What a caller can get wrong, and the end


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
