"""`dispatcher.Client` against a real API and against one that fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from dispatcher import Client
from dispatcher.bodies import NewContent, NewRecipient
from dispatcher.client import ApiError, ApiUnavailable
from dispatcher.store.opening import Store

Handler = Callable[[web.BaseRequest], web.Response]


@pytest.fixture
async def failing() -> AsyncIterator[tuple[str, list[web.BaseRequest], list[Handler]]]:
    """A server that does what it is told, one handler per request, and what it was asked."""
    asked: list[web.BaseRequest] = []
    handlers: list[Handler] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        asked.append(request)
        return handlers.pop(0)(request)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked, handlers
    await runner.cleanup()


def reset(request: web.BaseRequest) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def busy(status: int) -> Handler:
    return lambda _: web.Response(status=status, headers={"Retry-After": "0"})


def accepted(_: web.BaseRequest) -> web.Response:
    body = b'{"batch":"B","accepted":1,"rejected":[],"messages":["B-0"],"more":1}'
    return web.Response(status=202, body=body)


async def test_send_ask_and_cancel(url: str, store: Store) -> None:
    async with Client(url) as client:
        receipt = await client.send(
            channel="sms", sender="shop", text="Hi {n}", class_="urgent", ttl="2h",
            recipients=[
                {"to": "+4915550000001", "params": {"n": 1}},
                NewRecipient("+4915550000002", {"n": "b"}, ref="r"),
                "+4915550000003",
            ],
        )  # fmt: skip
        assert receipt.messages == [f"{receipt.batch}-0", f"{receipt.batch}-1", None]
        assert [item.code for item in receipt.rejected] == ["missing_parameter"]
        assert (await client.message(f"{receipt.batch}-1")).status == "queued"
        assert (await client.batch(receipt.batch)).queued == 2
        assert (await client.cancel(receipt.batch)).total == 2
    queues = [name async for name in store.client.scan_iter(f"{store.keys.prefix}:queue:*")]
    assert [b":urgent:" in name for name in queues] == [True]


async def test_a_key_of_ones_own_makes_two_calls_one(url: str, store: Store) -> None:
    async with Client(url) as client:
        calls = [
            await client.send(
                channel="sms", sender="shop", content=NewContent("Hi"),
                recipients=["+4915550000001"], key="order-7",
            )
            for _ in range(2)
        ]  # fmt: skip
        other = await client.send(
            channel="sms", sender="shop", text="Hi", recipients=["+4915550000001"]
        )
    assert calls[0] == calls[1]
    assert other.batch != calls[0].batch


async def test_problems_are_errors(shared_url: str) -> None:
    async with Client(shared_url, "globex-token") as client:
        with pytest.raises(ApiError) as refused:
            await client.batch("01JD4Z3C7V9M2N8Q5R6S7T8V9W")
        assert (refused.value.status, refused.value.code) == (404, "not_found")
        with pytest.raises(ApiError) as refused:
            await client.send(
                channel="sms", sender="shop", text="Hi", class_="urgent", recipients=["x", "y"]
            )
        assert refused.value.code == "none_accepted"
        assert [item.index for item in refused.value.rejected] == [0, 1]
    async with Client(shared_url) as client:
        with pytest.raises(ApiError, match="401 unauthorized"):
            await client.message("01JD4Z3C7V9M2N8Q5R6S7T8V9W-0")


async def test_a_passing_failure_is_repeated_with_the_same_key(
    failing: tuple[str, list[web.BaseRequest], list[Handler]],
) -> None:
    url, asked, handlers = failing
    handlers += [reset, busy(503), busy(429), busy(502), accepted]
    async with Client(url, "token") as client:
        receipt = await client.send(channel="sms", sender="s", text="Hi", recipients=["+1"])
    assert receipt.messages == ["B-0"]
    assert len(asked) == 5
    assert len({request.headers["Idempotency-Key"] for request in asked}) == 1
    assert {request.headers["Authorization"] for request in asked} == {"Bearer token"}


async def test_patience_ends(
    failing: tuple[str, list[web.BaseRequest], list[Handler]],
) -> None:
    url, asked, handlers = failing
    handlers += [lambda _: web.Response(status=503, headers={"Retry-After": "3600"})]
    async with Client(url) as client:
        with pytest.raises(ApiUnavailable, match="503"):
            await client.batch("B")
    assert len(asked) == 1


async def test_an_answer_of_something_else_is_an_error(
    failing: tuple[str, list[web.BaseRequest], list[Handler]],
) -> None:
    url, _, handlers = failing
    handlers += [lambda _: web.Response(text="<html>"), lambda _: web.Response(status=404)]
    async with Client(url) as client:
        for _ in range(2):
            with pytest.raises(ApiError) as refused:
                await client.batch("B")
            assert refused.value.code == "unexpected_answer"


def test_import_dispatcher_stays_cheap() -> None:
    code = "import dispatcher, sys; assert 'aiohttp' not in sys.modules; dispatcher.Client"
    subprocess.run([sys.executable, "-c", code], check=True)
