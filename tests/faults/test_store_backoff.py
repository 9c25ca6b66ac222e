"""A store that is gone is asked for rarely: nobody burns a core in waiting for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dispatcher.simulator import Simulator
from tests.campaign import numbers, twilio
from tests.faults.server import Server, troubled

SECONDS = 2.5
ATTEMPTS_MOST = 50
"""A pump, the settler, the heartbeat, the bell and the announcements, each after pauses that double
up to 2 s: some 30 attempts. A loop without pauses makes thousands."""


async def test_while_every_connection_is_closed_at_once(
    tmp_path: Path, simulator: Simulator, simulator_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir()
    attempts = 0

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    with Server(tmp_path / "data").running() as server:
        async with troubled(server, simulator, twilio(simulator_url, rate="300/s"), caplog) as rig:
            batch = await rig.run.submit(numbers(150), class_="bulk")
            async with rig.run.work():
                await rig.accepted(50)
                server.kill()
                async with await asyncio.start_server(close, "127.0.0.1", server.port):
                    await asyncio.sleep(SECONDS)
                assert 5 <= attempts <= ATTEMPTS_MOST
                server.start()
                assert await rig.finished(batch) == {"sent": 150}
        rig.run.assert_each_arrived_once((batch, 150))
        assert len(rig.lines("store cannot be reached")) == 1
