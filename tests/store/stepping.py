"""A store server whose clock steps back when it is told to (libfaketime)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis.asyncio as aioredis

from benchmarks.chaos_store import find_faketime, movable
from tests.faults.server import Server


class SteppingServer(Server):
    """Its clock is the machine's until the first step."""

    def __init__(self, folder: Path) -> None:
        if find_faketime() is None:
            pytest.skip("needs Debian's package faketime")
        self._time, self._behind = folder / "time", 0
        super().__init__(folder, env={**movable(self._time), "FAKETIME_NO_CACHE": "1"})

    async def step_back(self, client: aioredis.Redis, seconds: int) -> None:
        """Have its clock go back, once more, by so much."""
        before, _ = await client.time()
        self._behind += seconds
        self._time.write_text(f"-{self._behind}s\n")
        while (await client.time())[0] > before - seconds / 2:
            await asyncio.sleep(0.01)
