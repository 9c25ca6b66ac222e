"""The API is killed in the middle of a call: the same call at another process ends it, once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from dispatcher import failpoints
from dispatcher.store.opening import Store
from tests.campaign import until
from tests.faults.workers import ROOT
from tests.ports import free_port

HOOK = '[providers.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\nrate = "10/s"\n'
CALL = {
    "channel": "sms",
    "from": "shop",
    "content": {"text": "Hi"},
    "recipients": [{"to": f"+49151{number:08}"} for number in range(500)],
}
KEY = {"Idempotency-Key": "order-7"}


@contextmanager
def api(config: Path, failpoint: str = "") -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`dispatcher api`, which may be told where to die, and its address."""
    port = free_port()
    command = [sys.executable, "-m", "dispatcher", "api", "--config", str(config)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), failpoints.VARIABLE: failpoint}
    with (config.parent / "api.log").open("ab") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stderr=log, env=environ)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def ready(http: aiohttp.ClientSession, url: str) -> None:
    async def answers() -> bool:
        try:
            async with http.get(f"{url}/readyz") as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False

    await until(answers)


@pytest.mark.parametrize("place", ["before_enqueue", "after_enqueue"])
async def test_between_its_writes(
    store: Store, config_file: Callable[[str], Path], place: str
) -> None:
    path = config_file(HOOK)
    async with aiohttp.ClientSession() as http:
        with api(path, place) as (process, url):
            await ready(http, url)
            with pytest.raises(aiohttp.ClientError):
                await http.post(f"{url}/v1/messages", json=CALL, headers=KEY)
            assert await asyncio.to_thread(process.wait, 10) == -9
        (fixed,) = [name async for name in store.client.scan_iter(store.keys.name("submit", "*"))]
        batch = (await store.client.hget(fixed, "batch")).decode()
        with api(path) as (_, url):
            await ready(http, url)
            for _ in range(2):
                async with http.post(f"{url}/v1/messages", json=CALL, headers=KEY) as reply:
                    assert reply.status == 202
                    answer = await reply.json()
                    assert (answer["batch"], answer["accepted"]) == (batch, 500)
    view = await store.inspector.batch(batch)
    assert view is not None and (view.total, view.counts["queued"]) == (500, 500)
    (lane,) = await store.inspector.lanes(["hook/sms/de"])
    assert lane.depth["normal"] == 500
    assert await store.inspector.batches() == [batch]
