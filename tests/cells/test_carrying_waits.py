"""Moves to another cell wait for a store that is away, and say so once."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.engine.crossing import Ferry
from dispatcher.engine.outage import Outage
from dispatcher.engine.runtime import end_all
from dispatcher.errors import StoreUnavailable
from dispatcher.store.crossings import Crossings
from dispatcher.store.opening import Store
from tests.campaign import until


async def test_an_outage_is_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    carry, tries = Crossings.carry, 0

    async def fail_at_first(self: Crossings, status_seconds: float) -> int:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise StoreUnavailable("store is unreachable: refused")
        return await carry(self, status_seconds)

    monkeypatch.setattr(Crossings, "carry", fail_at_first)
    ferry = Ferry(Crossings(store.client, store.keys), 60, 0.01, Outage())
    role = asyncio.create_task(ferry.run())

    async def tried() -> bool:
        return tries > 4

    await until(tried)
    await end_all([role])
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "store is unreachable: refused; waiting"
    assert len(said) == 2 and said[1].startswith("store is well again")
