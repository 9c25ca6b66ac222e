from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import msgpack
import pytest

from dispatcher.config import Config
from dispatcher.simulator import Settings, Simulator, TwilioAccount
from dispatcher.store.opening import Store, open_store
from tests.campaign import Campaign, twilio

WEST = "AC" + "1" * 32
"""The account of the provider `west`, which is in the cell eu."""

Start = Callable[[str], Awaitable[Campaign]]


def two_providers(url: str, **west: object) -> str:
    """`twilio` in the main cell and `west` in eu."""
    return twilio(url) + twilio(url, name="west", sid=WEST, cell="eu", **west)


def halves(url: str) -> str:
    """Every recipient always takes the same of two providers, half of them each."""
    choices = '{ name = "twilio", weight = 1 }, { name = "west", weight = 1 }'
    return two_providers(url) + f"[[routes]]\nproviders = [{choices}]\n"


async def in_cell(run: Campaign, cell: str, batch: str) -> dict[str, int]:
    """What a cell counts of a batch by itself."""
    view = await run.store.cells[cell].inspector.batch(batch)
    assert view is not None
    assert sum(view.counts.values()) == view.total
    return {"total": view.total} | {word: count for word, count in view.counts.items() if count}


async def messages_leaving(run: Campaign) -> int:
    """Messages on their way to another cell."""
    names = [cell.keys.name("leaving") for cell in run.store.cells.values()]
    moves = [move for name in names for move in await run.store.client.hvals(name)]
    return sum(msgpack.unpackb(move, raw=True)[3] for move in moves)


async def assert_nothing_left(run: Campaign) -> None:
    """No queue, nothing held, scheduled or on its way, and no worker in any cell."""
    for cell in run.store.cells.values():
        for kind in ("queue", "held", "leaving", "scheduled", "items", "workers"):
            names = [name async for name in run.store.client.scan_iter(cell.keys.name(kind) + "*")]
            assert names == []
        assert int(await run.store.client.get(cell.keys.name("queued")) or 0) == 0
    assert await run.store.inspector.unfinished() == 0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    simulator = Simulator(Settings((TwilioAccount(), TwilioAccount(account_sid=WEST))))
    yield simulator
    await simulator.stop()


@pytest.fixture
async def over_cells(
    configure: Callable[[str], Config], store: Store, simulator: Simulator
) -> AsyncIterator[Start]:
    """A campaign with the cells of the configuration that a text describes; `store` removes the
    keys of all of them."""
    async with AsyncExitStack() as stack:

        async def start(toml: str) -> Campaign:
            config = configure(toml)
            opened = await stack.enter_async_context(open_store(config.store))
            return Campaign(config, opened, simulator)

        yield start
