"""What became of messages and batches, and `DELETE` of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dispatcher.engine.views import batch_view, for_tenant, message
from dispatcher.errors import InvalidMessage
from dispatcher.messages import is_ulid, parse_message_id
from dispatcher.store.opening import Store
from dispatcher.web.calls import Answer, Call, acting
from dispatcher.web.gate import Gate
from dispatcher.web.problems import not_found


class Lookups:
    """Reads for the tenant that owns what is asked for, and for operators; to others it does not
    exist."""

    def __init__(self, gate: Gate, providers: Iterable[str]) -> None:
        self._gate = gate
        self._providers = tuple(providers)

    async def message(self, call: Call) -> Answer:
        """Raises Problem, StoreUnavailable."""
        name = call.arguments["id"]
        try:
            parse_message_id(name)
        except InvalidMessage:
            raise not_found(f"message {name}") from None
        async with self._gate.enter() as (store, *_):
            found = await message(store.inspector, name)
        if found is None or not _may_see(call, found["tenant"]):
            raise not_found(f"message {name}")
        return Answer(found if call.operator else for_tenant(found))

    async def batch(self, call: Call) -> Answer:
        """Raises Problem, StoreUnavailable."""
        async with self._gate.enter() as (store, *_):
            return Answer(await _owned(store, call))

    async def cancel(self, call: Call) -> Answer:
        """Raises Problem, StoreUnavailable."""
        async with self._gate.enter() as (store, _, submissions):
            await _owned(store, call)
            batch = call.arguments["id"]
            action = acting(call, "cancel", batch) if call.operator else None
            if not await submissions.cancel(batch, self._providers, action):
                raise not_found(f"batch {batch}")
            return Answer(await _owned(store, call))


def _may_see(call: Call, tenant: str) -> bool:
    return bool(call.operator) or call.tenant == tenant


async def _owned(store: Store, call: Call) -> dict[str, Any]:
    name = call.arguments["id"]
    view = await store.inspector.batch(name) if is_ulid(name) else None
    if view is None or not _may_see(call, view.tenant):
        raise not_found(f"batch {name}")
    return batch_view(view)
