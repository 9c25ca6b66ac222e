from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dispatcher.simulator import Simulator
from tests.simulator.clients import Client


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    simulator = Simulator()
    yield simulator
    await simulator.stop()


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Client]:
    async with Client(await simulator.start()) as client:
        yield client
