"""Every HTTP transport over TLS. Runs against both of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dispatcher.exchange import Delivery, Result
from tests.transport.client import Client, text
from tests.transport.server import AUTHORITY, Server, answers

Serve = Callable[..., Awaitable[Server]]
MakeClient = Callable[..., Client]

HEAD = b"HTTP/1.1 200 OK\r\n"


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
