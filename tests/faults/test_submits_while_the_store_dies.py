"""The store is killed again and again while calls come in: who repeats a call with its key has each
message in the store exactly once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from dispatcher.messages import decode_body
from dispatcher.simulator import Simulator
from tests.campaign import twilio
from tests.faults.server import SUBMISSION, Server, Troubled, troubled

CALLS = 120
RECIPIENTS = 20
KILLS = 4


async def repeated(http: aiohttp.ClientSession, number: int) -> tuple[str, int]:
    """One call, made until it is answered; its batch, and how often it was made."""
    recipients = [{"to": f"+4915551{number:04}{n:02}"} for n in range(RECIPIENTS)]
    body, calls = {**SUBMISSION, "recipients": recipients}, 0
    while True:
        calls += 1
        headers = {"Idempotency-Key": f"call-{number}"}
        async with http.post("/v1/messages", json=body, headers=headers) as reply:
            found = await reply.json(content_type=None)
            if reply.status == 202:
                return str(found["batch"]), calls
            assert reply.status == 503
        await asyncio.sleep(0.05)


async def kill_again_and_again(server: Server) -> None:
    for _ in range(KILLS):
        await asyncio.sleep(0.15)
        server.kill()
        await asyncio.to_thread(server.start)


async def queued(rig: Troubled) -> Counter[str]:
    """How often each message waits."""
    client, keys = rig.run.store.client, rig.run.store.keys
    found: Counter[str] = Counter()
    async for name in client.scan_iter(keys.name("queue", "*"), 1000):
        for _, fields in await client.xrange(name):
            batch = fields[b"batch"].decode()
            found.update(f"{batch}-{row.index}" for row in decode_body(fields[b"body"])[1])
    return found


@pytest.mark.parametrize("confirm", ["memory", "disk"])
async def test_each_message_is_there_once(
    tmp_path: Path,
    simulator: Simulator,
    simulator_url: str,
    caplog: pytest.LogCaptureFixture,
    confirm: str,
) -> None:
    (tmp_path / "data").mkdir()
    toml = f'confirm = "{confirm}"\n' + twilio(simulator_url)
    with Server(tmp_path / "data", None, "--appendfsync", "always").running() as server:
        async with (
            troubled(server, simulator, toml, caplog) as rig,
            aiohttp.ClientSession(rig.url, connector=aiohttp.TCPConnector(limit=4)) as http,
        ):
            killing = asyncio.create_task(kill_again_and_again(server))
            places = asyncio.Semaphore(4)

            async def call(number: int) -> tuple[str, int]:
                async with places:
                    await asyncio.sleep(0.02)
                    return await repeated(http, number)

            calls = await asyncio.gather(*(call(number) for number in range(CALLS)))
            await killing
            batches = {batch for batch, _ in calls}
            assert len(batches) == CALLS
            assert sum(made for _, made in calls) > CALLS
            expected = {f"{batch}-{n}" for batch in batches for n in range(RECIPIENTS)}
            assert await queued(rig) == Counter(dict.fromkeys(expected, 1))
            assert await rig.run.store.inspector.unfinished() == CALLS * RECIPIENTS
