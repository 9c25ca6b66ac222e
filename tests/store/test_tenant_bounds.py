"""How many messages each tenant has in the queue, and its bound."""

from __future__ import annotations

import pytest

from dispatcher.errors import StoreFull, TenantFull
from tests.store.cell import Cell


async def queued(cell: Cell) -> dict[str, int]:
    found = await cell.client.hgetall(cell.keys.name("queued_by"))
    return {tenant.decode(): int(count) for tenant, count in found.items()}


async def test_a_tenant_is_counted_until_its_messages_have_an_outcome(cell: Cell) -> None:
    await cell.enqueue(6, tenant="acme")
    await cell.enqueue(6, first=0, tenant="acme")  # the same part again
    assert await queued(cell) == {"acme": 6}
    await cell.finish("w1", await cell.claim_entries("w1"))
    assert await queued(cell) == {}


async def test_a_tenant_at_its_bound_is_refused_and_others_are_not(cell: Cell) -> None:
    await cell.enqueue(4, tenant="acme", tenant_most=6)
    await cell.enqueue(2, tenant="acme", tenant_most=6)
    with pytest.raises(TenantFull, match=r"^\[tenants.acme\] max_queued = 6 reached: 6 queued$"):
        await cell.enqueue(1, tenant="acme", tenant_most=6)
    cell.accepted = 6
    assert await queued(cell) == {"acme": 6}
    await cell.enqueue(3, tenant="acme")
    assert list((await cell.check()).values()) == ["queue"] * 9


async def test_a_part_accepted_before_is_known_at_the_bound(cell: Cell) -> None:
    await cell.enqueue(4, tenant="acme", tenant_most=4)
    answer = await cell.enqueue(4, first=0, tenant="acme", tenant_most=4)
    assert answer.repeated


async def test_a_tenant_below_its_bound_does_not_exceed_that_of_all(cell: Cell) -> None:
    await cell.enqueue(4, tenant="acme", max_queued=5, tenant_most=100)
    with pytest.raises(StoreFull, match=r"\[store\] max_queued = 5") as error:
        await cell.enqueue(2, tenant="globex", max_queued=5, tenant_most=100)
    assert not isinstance(error.value, TenantFull)
