"""Accepts a part of a batch whose messages go to several cells: once, whatever ends in between.

No call writes to two cells. So the main cell first notes to which others the part is about to go;
each of them takes its messages, and remembers with the guard of the part which ones they are; the
main cell is the last and counts the part as accepted. When it comes again before that, only what
no cell has yet is added, whatever the routes are by then.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import redis.asyncio as aioredis
from msgspec.structs import replace

from dispatcher import failpoints
from dispatcher.errors import StoreFull, StoreUnavailable
from dispatcher.messages import decode_body, encode_body, indexes_of
from dispatcher.store.connection import answering
from dispatcher.store.keys import Keys
from dispatcher.store.queue import Accepted, NewEntry, NewLane, Queue, store_full, tenant_full
from dispatcher.store.scripts import Script

GLANCE_SECONDS = 0.5
"""How long a cell may take to answer that a part has nothing to do with."""
SILENT_SECONDS = 5.0
"""One that did not is not asked for so long."""


class Portion(NamedTuple):
    """What a cell has of a part: the check value of the whole, the index of its first record, and
    the indexes of the messages that are here."""

    check: str
    first: int
    indexes: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str, first: int) -> Portion:
        """Read what `text` wrote; "" is nothing."""
        check, _, packed = text.partition(" ")
        bits = int.from_bytes(base64.b64decode(packed), "little")
        places = (at for at, bit in enumerate(reversed(f"{bits:b}")) if bit == "1")
        return cls(check, first, frozenset(first + at for at in places))

    @property
    def text(self) -> str:
        """As the cell keeps it: a bit per message; "" for nothing."""
        if not self.indexes:
            return ""
        bits = bytearray((max(self.indexes) - self.first) // 8 + 1)
        for index in self.indexes:
            bits[(index - self.first) // 8] |= 1 << (index - self.first) % 8
        return f"{self.check} {base64.b64encode(bits).decode()}"

    def plus(self, entries: Iterable[NewEntry]) -> Portion:
        """The same with the messages of some entries."""
        new = (index for entry in entries for index in indexes_of(entry.body))
        return self._replace(indexes=self.indexes.union(new))


class _Part(NamedTuple):
    """A part as it came; `whose` are the tenant, the channel and the options of its batch."""

    batch: str
    number: int
    check: str
    whose: tuple[str, str, str]
    lanes: Sequence[NewLane]
    entries: Sequence[NewEntry]


class _Standing(NamedTuple):
    """Messages without an outcome in a cell, of all tenants and of one, what the guard of the part
    says there, and in the main cell which others the part may have reached. `silent`: it did not
    answer."""

    queued: int
    mine: int
    guard: str | None = None
    reached: tuple[str, ...] = ()
    silent: bool = False


class SpreadQueue(Queue):
    """The queue of the main cell, which gives every cell its messages of a part."""

    def __init__(
        self, client: aioredis.Redis, keys: Keys, confirming: aioredis.Redis | None = None
    ) -> None:
        super().__init__(client, keys, confirming)
        self._client = client
        self._intend = Script(client, keys, "intend")
        self._queues = {cell: Queue(client, own, confirming) for cell, own in keys.all().items()}
        self._seen: dict[str, _Standing] = {}
        self._silent_until: dict[str, float] = {}

    async def enqueue(
        self,
        batch: str,
        part: int,
        check: str,
        *,
        tenant: str,
        channel: str,
        options: str,
        max_queued: int,
        tenant_most: int = 0,
        keep_seconds: float = 0,
        lanes: Iterable[NewLane],
        entries: Sequence[NewEntry],
    ) -> Accepted:
        """As in one cell.

        The bounds are checked for all cells together and before the first of them is written to.
        Parts that come at the same time do not see each other: they may go beyond by their sizes.
        """
        whose = (tenant, channel, options)
        new = _Part(batch, part, check, whose, list(lanes), entries)
        full = await self._full(new)
        standing = await self._look(new)
        known = standing[self.keys.cell].guard
        given = _given(standing, self.keys.cell, part)
        if known is not None:
            return Accepted(0, True, known)
        for portion in given.values():
            if portion.check != check:
                return Accepted(0, True, portion.check)
        missing = new._replace(entries=_missing(entries, given.values()))
        try:
            if full:
                raise full
            _check_room(standing.values(), missing, max_queued, tenant_most)
            await self._give(missing, given)
            own_lanes, own_entries = self._own(missing, self.keys.cell)
            answer = await super().enqueue(
                batch, part, check, tenant=tenant, channel=channel, options=options, max_queued=0,
                keep_seconds=keep_seconds, lanes=own_lanes, entries=own_entries,
            )  # fmt: skip
        except StoreFull as error:
            if not given:
                raise
            raise StoreUnavailable(f"part {part} reached some cells only: {error}") from None
        return answer if answer.repeated else Accepted(_messages(entries))

    def _others(self, new: _Part) -> list[str]:
        """The cells beside the main one that a part goes to."""
        return sorted({self.keys.place(entry.lane) for entry in new.entries} - {self.keys.cell})

    async def _full(self, new: _Part) -> StoreFull | None:
        """Why there is no room in one of the cells."""
        try:
            for cell in (self.keys.cell, *self._others(new)):
                await self._queues[cell].check_memory()
        except StoreFull as error:
            return error
        return None

    async def _look(self, new: _Part) -> dict[str, _Standing]:
        """How every cell stands. Raises StoreUnavailable for one that gets some of the part, or may
        have some of it."""
        needed = (self.keys.cell, *self._others(new))
        beside = [cell for cell in self._queues if cell not in needed]
        looks = (self._look_at(cell, new) for cell in needed)
        glances = (self._glance_at(cell, new) for cell in beside)
        found = await asyncio.gather(*looks, *glances)
        standing = dict(zip((*needed, *beside), found, strict=True))
        for cell in standing[self.keys.cell].reached:
            if cell not in standing or standing[cell].silent:
                standing[cell] = await self._look_at(cell, new)
        self._seen = standing
        return standing

    async def _glance_at(self, cell: str, new: _Part) -> _Standing:
        """The same of a cell that nothing goes to: nobody waits long for it, or often."""
        now = time.monotonic()
        if now >= self._silent_until.get(cell, 0.0):
            try:
                async with asyncio.timeout(GLANCE_SECONDS):
                    return await self._look_at(cell, new)
            except (StoreUnavailable, TimeoutError):
                self._silent_until[cell] = now + SILENT_SECONDS
        last = self._seen.get(cell)
        return _Standing(last.queued if last else 0, 0, silent=True)  # of which tenant, who knows

    async def _look_at(self, cell: str, new: _Part) -> _Standing:
        keys = self.keys._replace(cell=cell)
        by_tenant, batch = keys.name("queued_by"), keys.name("batch", new.batch)
        fields = [f"p:{new.number}", f"i:{new.number}"]
        queued, mine, (guard, reached) = await asyncio.gather(
            answering(partial(self._client.get, keys.name("queued"))),
            answering(partial(self._client.hget, by_tenant, new.whose[0])),
            answering(partial(self._client.hmget, batch, fields)),
        )
        return _Standing(
            int(queued or 0),
            int(mine or 0),
            None if guard is None else guard.decode(),
            tuple((reached or b"").decode().split()),
        )

    async def _give(self, new: _Part, given: dict[str, Portion]) -> None:
        """Have each other cell take what it gets; `given` is what they have, before and after."""
        others = self._others(new)
        if others:
            name = self.keys.name("batch", new.batch)
            if not await self._intend(name, new.number, *new.whose, *others):
                raise _elsewhere(new)
        for cell in others:
            lanes, entries = self._own(new, cell)
            before = given.get(cell, Portion(new.check, new.number))
            after = before.plus(entries)
            answer = await self._queues[cell].enqueue_portion(
                new.batch, new.number, after.text, new.whose, before.text, lanes, entries
            )
            if answer.repeated and answer.check != after.text:
                raise _elsewhere(new)
            given[cell] = after
            failpoints.passed("between_cells")

    def _own(self, new: _Part, cell: str) -> tuple[list[NewLane], list[NewEntry]]:
        """What a cell gets of a part."""
        place = self.keys.place
        lanes = [lane for lane in new.lanes if place(lane.lane) == cell]
        return lanes, [entry for entry in new.entries if place(entry.lane) == cell]


def _given(standing: Mapping[str, _Standing], main: str, part: int) -> dict[str, Portion]:
    """What the cells beside the main one have of a part."""
    found = {cell: one.guard for cell, one in standing.items() if cell != main}
    return {cell: Portion.parse(guard, part) for cell, guard in found.items() if guard}


def _missing(entries: Sequence[NewEntry], given: Iterable[Portion]) -> list[NewEntry]:
    """The messages that no cell has yet."""
    there = frozenset[int]().union(*(portion.indexes for portion in given))
    if not there:
        return list(entries)
    return [left for entry in entries if (left := _without(entry, there)).count]


def _without(entry: NewEntry, there: frozenset[int]) -> NewEntry:
    if there.isdisjoint(indexes_of(entry.body)):
        return entry
    envelope, rows = decode_body(entry.body)
    rows = [row for row in rows if row.index not in there]
    return replace(entry, count=len(rows), body=encode_body(envelope, rows))


def _elsewhere(new: _Part) -> StoreUnavailable:
    return StoreUnavailable(f"part {new.number} is on its way in another call")


def _messages(entries: Iterable[NewEntry]) -> int:
    return sum(entry.count for entry in entries)


def _check_room(standing: Iterable[_Standing], new: _Part, most: int, tenant_most: int) -> None:
    """Raises StoreFull."""
    messages, cells = _messages(new.entries), list(standing)
    queued, mine = sum(cell.queued for cell in cells), sum(cell.mine for cell in cells)
    if most and queued + messages > most:
        raise store_full(most, queued)
    if tenant_most and mine + messages > tenant_most:
        raise tenant_full(new.whose[0], tenant_most, mine)
