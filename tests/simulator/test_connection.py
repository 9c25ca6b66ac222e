"""HTTP/1.1 as bytes on a socket."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.simulator import Hang, Latency, Settings, Simulator, TwilioAccount
from dispatcher.simulator.connection import MAX_BODY, MAX_HEAD
from tests.simulator.clients import LABEL, Client, basic, form, request, sms

CHUNKED = (
    b"POST /2010-04-01/Accounts/AC00000000000000000000000000000000/Messages.json HTTP/1.1\r\n"
    b"Host: simulator\r\nAuthorization: " + basic().encode() + b"\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"13\r\nTo=%2B4915111111111\r\n14\r\n&From=%2B4915550006&\r\n7\r\nBody=Hi\r\n0\r\n\r\n"
)


async def test_one_connection_carries_many_requests(simulator: Simulator, client: Client) -> None:
    for _ in range(5):
        assert (await client.sms()).status == 201
    assert simulator.counts.connections == 1
    assert simulator.counts.requests == 5


async def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    client.writer.write(b"".join(sms(Body=f"text {n}") for n in range(300)))
    bodies = [(await client.read()).json["body"] for _ in range(300)]
    assert bodies == [f"text {n}" for n in range(300)]


async def test_an_answer_waits_for_the_slower_one_before_it() -> None:
    settings = Settings((TwilioAccount(latency=Latency(0.01, 0.01)),), seed=1)
    simulator = Simulator(settings)
    async with Client(await simulator.start()) as client:
        client.writer.write(b"".join(sms(Body=f"text {n}") for n in range(50)))
        bodies = [(await client.read()).json["body"] for _ in range(50)]
    await simulator.stop()
    assert bodies == [f"text {n}" for n in range(50)]


@pytest.mark.parametrize("raw", [sms(), CHUNKED], ids=["content-length", "chunked"])
async def test_a_request_may_come_byte_by_byte(
    simulator: Simulator, client: Client, raw: bytes
) -> None:
    for position in range(len(raw)):
        client.writer.write(raw[position : position + 1])
        await asyncio.sleep(0)
    assert (await client.read()).status == 201
    assert simulator.counts.accepted == 1


async def test_a_chunked_body_in_one_piece(client: Client) -> None:
    assert (await client.send(CHUNKED)).json["body"] == "Hi"


async def test_connection_close_is_obeyed(client: Client) -> None:
    raw = sms().replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    answer = await client.send(raw)
    assert (answer.status, answer.headers["connection"]) == (201, "close")
    assert await client.read_end() == b""


async def test_http_1_0_is_closed_after_the_answer(client: Client) -> None:
    answer = await client.send(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert await client.read_end() == b""


async def test_head_has_no_body(client: Client) -> None:
    client.writer.write(b"HEAD /healthz HTTP/1.1\r\nHost: s\r\n\r\n")
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"Content-Length: 3\r\n" in head
    assert (await client.sms()).status == 201


async def test_an_absolute_target_is_understood(client: Client) -> None:
    assert (await client.get("http://simulator/healthz")).status == 200
    assert (await client.get("http://simulator")).status == 404


async def test_expect_100_continue(client: Client) -> None:
    raw = sms().replace(b"\r\n", b"\r\nExpect: 100-continue\r\n", 1)
    head, _, body = raw.partition(b"\r\n\r\n")
    client.writer.write(head + b"\r\n\r\n")
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.send(body)).status == 201


async def test_a_body_of_32_mib_is_read_and_one_byte_more_refused(client: Client) -> None:
    text = b"Body=".ljust(MAX_BODY, b"x")
    assert (await client.send(form(text))).json["code"] == 21604
    refused = await client.send(form(text + b"x"))
    assert (refused.status, refused.headers["connection"]) == (413, "close")


async def test_a_chunked_body_above_32_mib_is_refused(client: Client) -> None:
    head = CHUNKED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    assert (await client.send(head + chunk * 33)).status == 413


async def test_endless_headers_are_refused(client: Client) -> None:
    client.writer.write(b"GET /healthz HTTP/1.1\r\n")
    for _ in range(8):
        client.writer.write(b"X: " + b"x" * (MAX_HEAD // 4) + b"\r\n")
        await asyncio.sleep(0.01)
    assert (await client.read()).status == 431


async def test_what_is_not_http_is_refused_after_the_answers_before_it(client: Client) -> None:
    client.writer.write(sms() + b"\x00\x01 nonsense\r\n\r\n")
    assert (await client.read()).status == 201
    refused = await client.read()
    assert refused.status == 400
    assert b"not HTTP/1.1" in refused.body
    assert await client.read_end() == b""


async def test_a_protocol_switch_is_not_taken_up(client: Client) -> None:
    answer = await client.send(request("GET", "/healthz", Connection="Upgrade", Upgrade="h2c"))
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.read_end() == b""


async def test_a_client_that_leaves_takes_its_requests_along(simulator: Simulator) -> None:
    simulator.set_faults([Hang()])
    url = await simulator.start()
    async with Client(url) as client:
        client.writer.write(sms() * 3)
        assert await client.is_silent()
    simulator.set_faults([])
    simulator.change_account(LABEL, concurrency=1)
    async with Client(url) as client:
        assert (await client.sms()).headers["twilio-concurrent-requests"] == "1"


async def test_a_stopped_simulator_drops_connections_and_starts_again(
    simulator: Simulator, client: Client
) -> None:
    simulator.set_faults([Hang(times=1)])
    client.writer.write(sms())
    assert await client.is_silent()
    await simulator.stop()
    assert await client.read_end() == b""
    async with Client(await simulator.start()) as again:
        assert (await again.sms()).status == 201
    assert len(simulator.journal) == 2
