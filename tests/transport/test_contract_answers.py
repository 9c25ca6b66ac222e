"""What every HTTP transport takes for an answer, and what not. Runs against both of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.exchange import Delivery, Result
from tests.transport.client import Client, text
from tests.transport.server import OK, Peer, Server, answers, polite

Serve = Callable[..., Awaitable[Server]]
MakeClient = Callable[..., Client]

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


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
