from __future__ import annotations

from typing import Any

import pytest

from dispatcher.store.opening import Store
from dispatcher.store.scripts import Argument, Script
from tests.store.cell import OWN, Cell


@pytest.fixture(params=["once", "twice"])
async def cell(
    store: Store, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Cell:
    """A cell with the provider `p` without a rate and the workers w1 and w2. Run twice, every
    script but claim runs twice and its first reply is lost."""
    if request.param == "twice":
        run = Script.__call__

        async def run_twice(self: Script, key: str, *arguments: Argument) -> Any:
            if self.name != "claim":
                await run(self, key, *arguments)
            return await run(self, key, *arguments)

        monkeypatch.setattr(Script, "__call__", run_twice)
    cell = Cell(store)
    await cell.limit(OWN)
    await cell.worker("w1", "w2")
    return cell


@pytest.fixture
async def store_cell(store: Store) -> Cell:
    """The same, where every script runs once."""
    cell = Cell(store)
    await cell.limit(OWN)
    await cell.worker("w1", "w2")
    return cell
