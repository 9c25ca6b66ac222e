"""Reads all cells as if they were one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import redis.asyncio as aioredis

from dispatcher.messages import Status
from dispatcher.store.inspector import (
    ActionView,
    BatchView,
    BreakerView,
    Inspector,
    Known,
    LaneView,
    batch_view,
)
from dispatcher.store.keys import Keys
from dispatcher.store.limit_views import LimitView, join_limits
from dispatcher.store.survey import StoreView, Survey
from dispatcher.store.suspensions import Suspensions

TEXTS = ("tenant", "channel", "options")
TIMES = ("created", "cancel")
LAST = ("due", "reopened")
"""What is no count, though a tenant may have a number for its name."""
_LATER = {
    Status.QUEUED: 0,
    Status.SCHEDULED: 0,
    Status.UNKNOWN: 1,
    Status.UNDELIVERED: 3,
    Status.DELIVERED: 4,
    Status.READ: 5,
}
"""Of two records of a message with the same hop the one with the higher number holds; 2 for all
that end it."""


class JoinedInspector(Inspector):
    """All cells. Each is read at a moment of its own, so a message on its way from one to another
    may be counted in both for an instant, never in none."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        super().__init__(client, keys)
        self._cells = {cell: Inspector(client, own) for cell, own in keys.all().items()}

    @property
    def cells(self) -> Mapping[str, Inspector]:
        return self._cells

    def at(self, lane: str) -> Inspector:
        return self._cells[self._keys.place(lane)]

    async def records(self, batch: str, indexes: Sequence[int]) -> dict[int, Known]:
        known: dict[int, Known] = {}
        for cell in self._cells.values():
            for index, found in (await cell.records(batch, indexes)).items():
                if index not in known or _order(found) > _order(known[index]):
                    known[index] = found
        return known

    async def batch(self, batch: str) -> BatchView | None:
        found = [await cell.batch_fields(batch) for cell in self._cells.values()]
        known = [fields for fields in found if "total" in fields]
        return batch_view(batch, join_fields(known)) if known else None

    async def batches(self) -> list[str]:
        found = [await cell.batches() for cell in self._cells.values()]
        return sorted({name for names in found for name in names}, reverse=True)

    async def lane_names(self, providers: Iterable[str]) -> list[str]:
        found = [await self.at(provider).lane_names([provider]) for provider in providers]
        return sorted(lane for lanes in found for lane in lanes)

    async def lanes(self, names: Iterable[str]) -> list[LaneView]:
        wanted, found = list(names), dict[str, LaneView]()
        for cell, inspector in self._cells.items():
            own = [lane for lane in wanted if self._keys.place(lane) == cell]
            found |= {view.lane: view for view in await inspector.lanes(own)} if own else {}
        return [found[lane] for lane in wanted]

    async def limit_names(self) -> list[str]:
        found = [await cell.limit_names() for cell in self._cells.values()]
        return sorted({name for names in found for name in names})

    async def limits(self, names: Iterable[str]) -> dict[str, LimitView]:
        """What all cells together have of these limits."""
        wanted = list(names)
        found = {name: await cell.limits(wanted) for name, cell in self._cells.items()}
        return join_limits(found, self._keys.retired)

    async def breaker(self, provider: str) -> BreakerView:
        return await self.at(provider).breaker(provider)

    async def workers(self) -> int:
        """A worker registers in every cell that it serves, under names that differ at their end."""
        found = [await cell.worker_names() for cell in self._cells.values()]
        return len({name.rpartition("-")[0] or name for names in found for name in names})

    async def suspensions(self) -> Suspensions:
        """Every cell has the same, unless a call to suspend ended in between."""
        found = [await cell.suspensions() for cell in self._cells.values()]
        holding = {item.pattern: item for cell in found for item in cell.holding}
        return Suspensions(tuple(sorted(holding.values())), found[0].resumed)

    async def providers(self) -> dict[str, int]:
        known: dict[str, int] = {}
        for cell in self._cells.values():
            for provider, at_us in (await cell.providers()).items():
                known[provider] = max(at_us, known.get(provider, 0))
        return known

    async def actions(self, most: int = 100) -> list[ActionView]:
        """What was done in several cells under one id is one action."""
        known: dict[str, ActionView] = {}
        for cell in self._cells.values():
            for view in await cell.actions(most):
                before = known.get(view.id, view._replace(affected=0))
                affected = before.affected + view.affected
                known[view.id] = before._replace(affected=affected)
        return sorted(known.values(), key=lambda view: -view.at_us)[:most]

    async def unfinished(self) -> int:
        return sum([await cell.unfinished() for cell in self._cells.values()])

    async def leaving(self) -> int:
        return sum([await cell.leaving() for cell in self._cells.values()])


class JoinedSurvey(Survey):
    """All cells, for overviews."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        super().__init__(client, keys)
        self._cells = {cell: Survey(client, own) for cell, own in keys.all().items()}

    def lane_pages(self, provider: str) -> AsyncIterator[list[LaneView]]:
        return self._cells[self._keys.place(provider)].lane_pages(provider)

    async def limit_pages(self) -> AsyncIterator[dict[str, LimitView]]:
        """In one piece: a limit may be in several cells."""
        cells: dict[str, dict[str, LimitView]] = {name: {} for name in self._cells}
        for name, cell in self._cells.items():
            async for page in cell.limit_pages():
                cells[name] |= page
        yield join_limits(cells, self._keys.retired)

    async def providers(self) -> set[str]:
        found = [await cell.providers() for cell in self._cells.values()]
        return {provider for names in found for provider in names}

    async def store(self, providers: Sequence[str]) -> StoreView:
        """Of memory that of the fullest cell: they may be on one node or on several."""
        views = []
        for name, cell in self._cells.items():
            own = [provider for provider in providers if self._keys.place(provider) == name]
            views.append(await cell.store(own))
        fullest = max(views, key=lambda view: (view.memory / (view.memory_most or 1), view.memory))
        return StoreView(
            views[0].now_us,
            {name: beat for view in views for name, beat in view.workers.items()},
            sum(view.sent for view in views),
            sum(view.unfinished for view in views),
            sum(view.letters for view in views),
            sum(view.leaving for view in views),
            fullest.memory,
            fullest.memory_most,
            {name: breaker for view in views for name, breaker in view.breakers.items()},
        )

    async def errors(self, lanes: Sequence[str]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for name, cell in self._cells.items():
            own = [lane for lane in lanes if self._keys.place(lane) == name]
            found |= await cell.errors(own) if own else {}
        return found


def open_survey(client: aioredis.Redis, keys: Keys) -> Survey:
    """A survey of every cell; `keys` are those of the main one."""
    return JoinedSurvey(client, keys) if keys.several else Survey(client, keys)


def join_fields(cells: Sequence[Mapping[str, bytes]]) -> dict[str, bytes]:
    """One batch out of what several cells keep of it: counts are added, of times the first
    holds (of `due` the last), and of texts every word."""
    joined: dict[str, bytes] = {}
    for key in dict.fromkeys(key for fields in cells for key in fields):
        values = [fields[key] for fields in cells if key in fields]
        if key in TIMES:
            joined[key] = min(values, key=int)
        elif key in LAST:
            joined[key] = max(values, key=int)
        elif (
            key not in TEXTS
            and not key.startswith("p:")
            and all(value.lstrip(b"-").isdigit() for value in values)
        ):
            joined[key] = str(sum(map(int, values))).encode()
        else:
            joined[key] = b" ".join(dict.fromkeys(b" ".join(values).split()))
    return joined


def _order(known: Known) -> tuple[int, int]:
    status, hop, _ = known
    return hop, _LATER.get(status, 2)
