"""What `write_by` promises on every HTTP transport. Runs against both of them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest

from dispatcher import exchange
from dispatcher.exchange import Delivery, Result, monotonic
from dispatcher.transport import aiohttp_pool, pool
from tests.transport.client import PATIENCE, Client, text
from tests.transport.server import OK, Peer, Server, silent

Serve = Callable[..., Awaitable[Server]]
MakeClient = Callable[..., Client]

LATE = Result(Delivery.NOT_SENT, None, "deadline")


class Held:
    """A server's script that keeps its answers until `go` is set."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.go = asyncio.Event()
        self._before = before

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.read()
            await self.go.wait()
            self._before()
            await peer.write(OK)


async def arrived(server: Server, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(server.bodies) < number:
            await asyncio.sleep(0.005)


async def test_in_time_it_is_written_and_its_answer_may_come_later(
    serve: Serve, client: MakeClient
) -> None:
    held = Held()
    server = await serve(held)
    sender = client()
    end = monotonic() + 0.5
    send = sender.send(server.url, write_by=end)
    await arrived(server, 1)
    while monotonic() <= end:
        await asyncio.sleep(0.02)
    held.go.set()
    assert text(await send) == (200, b"ok")


async def test_what_still_waits_then_is_not_sent(serve: Serve, client: MakeClient) -> None:
    server = await serve(silent)
    sender = client(concurrency=1)
    first = sender.send(server.url, b"first", timeout=5.0)
    await arrived(server, 1)
    soon = monotonic() + 0.2
    assert await sender.ask_all(server.url, [b"a", b"b"], write_by=soon) == [LATE, LATE]
    result = await sender.ask(server.url, timeout=0.1, write_by=monotonic() + 60)
    assert result == Result(Delivery.NOT_SENT, None, "timeout")
    assert server.bodies == [b"first"]
    assert not first.done()
    await sender.transport.close()
    sender.assert_once()


async def test_what_may_no_longer_be_written_is_not_sent(serve: Serve, client: MakeClient) -> None:
    held = Held()
    server = await serve(held)
    sender, allowed = client(concurrency=1), True
    first = sender.send(server.url, b"first")
    await arrived(server, 1)
    waiting = [sender.send(server.url, body, may_write=lambda: allowed) for body in (b"a", b"b")]
    other = sender.send(server.url, b"other")
    allowed = False
    held.go.set()
    assert text(await first) == (200, b"ok")
    assert await asyncio.gather(*waiting) == [LATE, LATE]
    assert text(await other) == (200, b"ok")
    assert server.bodies == [b"first", b"other"]
    sender.assert_once()


async def test_those_behind_one_that_is_late_are_sent(serve: Serve, client: MakeClient) -> None:
    """The loop stands still past the time of the second request, then a connection is free."""
    held = Held(before=lambda: time.sleep(0.3 if len(server.bodies) == 1 else 0.0))
    server = await serve(held)
    sender = client(concurrency=1)
    first = sender.send(server.url, b"first")
    await arrived(server, 1)
    late = sender.send(server.url, b"late", write_by=monotonic() + 0.2)
    others = [
        sender.send(server.url, b"second", write_by=monotonic() + 60),
        sender.send(server.url, b"third"),
    ]
    await asyncio.sleep(0)
    held.go.set()
    async with asyncio.timeout(PATIENCE):
        assert await late == LATE
        assert [text(result) for result in await asyncio.gather(first, *others)] == [
            (200, b"ok")
        ] * 3
    assert server.bodies == [b"first", b"second", b"third"]
    assert len(server.peers) == 1
    sender.assert_once()


async def test_a_suspended_machine_writes_nothing_late(
    serve: Serve, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timers of the loop know nothing of the time that has passed; the clock does."""
    asleep = 0.0
    for module in (pool, aiohttp_pool):
        monkeypatch.setattr(module, "monotonic", lambda: exchange.monotonic() + asleep)
    monkeypatch.setattr(pool, "TICK_SECONDS", 60.0)
    held = Held()
    server = await serve(held)
    sender = client(concurrency=1)
    first = sender.send(server.url, b"first")
    await arrived(server, 1)
    late = sender.send(server.url, b"late", write_by=monotonic() + 60)
    await asyncio.sleep(0)
    asleep = 120.0
    held.go.set()
    async with asyncio.timeout(PATIENCE):
        assert (await first).delivery is Delivery.ANSWERED
        assert await late == LATE
    assert text(await sender.ask(server.url, b"next")) == (200, b"ok")
    assert server.bodies == [b"first", b"next"]
    sender.assert_once()


async def test_never_accepted(client: MakeClient) -> None:
    with socket.socket() as full, socket.socket() as one, socket.socket() as other:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (one, other):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        assert await client().ask(url, write_by=monotonic() + 0.2) == LATE


@pytest.mark.parametrize("busy", [False, True])
async def test_a_time_that_is_over(serve: Serve, client: MakeClient, busy: bool) -> None:
    server = await serve(silent)
    sender = client(concurrency=1)
    if busy:
        sender.send(server.url, b"first", timeout=30.0)
        await arrived(server, 1)
    assert await sender.ask(server.url, b"late", timeout=1.0, write_by=monotonic() - 1) == LATE
    assert server.bodies == [b"first"] * busy
