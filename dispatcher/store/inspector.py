"""Reads what the store knows of batches, messages and lanes: one read model for everybody."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import redis.asyncio as aioredis

from dispatcher.messages import CLASSES, Record, Status, decode_record, decode_sheet
from dispatcher.store.cells_client import at_cell
from dispatcher.store.connection import answering
from dispatcher.store.keys import STATUS_BLOCK, Keys
from dispatcher.store.limit_views import LimitView, limit_view
from dispatcher.store.scripts import Script
from dispatcher.store.suspensions import Suspensions, read_suspensions

COUNTED = (
    Status.SENT, Status.DELIVERED, Status.READ, Status.UNDELIVERED, Status.UNKNOWN, Status.DEAD,
    Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED,
)  # fmt: skip
"""Statuses with a counter of their own; queued is what is left of the total."""

Known = tuple[Status, int, Record]


class BatchView(NamedTuple):
    """One batch. `counts` has every status by name and adds up to `total`; `codes` counts why
    messages died or were suppressed ("dead:21211"); `events` counts retried and deferred; `lanes`
    are the first it went to (`*` for others), `due_us` is when the last of it may first be sent."""

    id: str
    total: int
    counts: dict[str, int]
    codes: dict[str, int]
    events: dict[str, int]
    created_us: int
    tenant: str
    channel: str
    lanes: tuple[str, ...] = ()
    due_us: int = 0


class LaneView(NamedTuple):
    """One lane: messages waiting per class, and what has gone through it since the store began.
    `suspended_us` is until when an operator lets nothing pass and `reason` why, `paused_us` until
    when the provider has asked for a pause; 0 or in the past: it lets pass. `oldest_us` is when the
    oldest entry of each class was put into its queue, as far as that was asked for."""

    lane: str
    limits: tuple[str, ...]
    depth: dict[str, int]
    sent: int
    retried: int
    dead: int
    suspended_us: int = 0
    reason: str = ""
    paused_us: int = 0
    deferred: int = 0
    oldest_us: Mapping[str, int] = MappingProxyType({})

    @property
    def waiting(self) -> int:
        """Messages of all classes that wait."""
        return sum(self.depth.values())


class ActionView(NamedTuple):
    """What an operator did: `on` is what it concerned, `detail` how, `affected` how many
    lanes or messages."""

    id: str
    at_us: int
    who: str
    what: str
    on: str
    detail: str
    reason: str
    affected: int


class BreakerView(NamedTuple):
    """The breaker of a provider: closed, open or half, and until when that is so (us)."""

    state: str = "closed"
    until_us: int = 0


class Inspector:
    """Read-only. All methods raise StoreUnavailable."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._clock = Script(client, keys, "clock")

    @property
    def cells(self) -> Mapping[str, Inspector]:
        """What reads each cell by itself, by the cells' names."""
        return {self._keys.cell: self}

    @property
    def retired(self) -> Collection[str]:
        """Cells that no configured provider is in any more."""
        return self._keys.retired

    def at(self, lane: str) -> Inspector:
        """What reads the cell of a lane, or of a provider."""
        return self

    async def records(self, batch: str, indexes: Sequence[int]) -> dict[int, Known]:
        """What is recorded of these messages; those never settled are left out."""
        blocks: dict[int, list[int]] = {}
        for index in indexes:
            blocks.setdefault(index // STATUS_BLOCK, []).append(index)
        known: dict[int, Known] = {}
        for block, members in blocks.items():
            name = self._keys.status(batch, block)
            values = await answering(partial(self._client.hmget, name, members))
            for index, value in zip(members, values, strict=True):
                if value is not None:
                    known[index] = decode_record(value)
            known |= await self._on_sheets(name, [i for i in members if i not in known])
        return known

    async def _on_sheets(self, name: str, indexes: Sequence[int]) -> dict[int, Known]:
        """What the sheets of one status hash say of these messages."""
        if not indexes:
            return {}
        fields = [
            field
            for field in await answering(partial(self._client.hkeys, name))
            if _covers(field, indexes)
        ]
        if not fields:
            return {}
        wanted, known = frozenset(indexes), {}
        for value in await answering(partial(self._client.hmget, name, fields)):
            for index, record in decode_sheet(value) if value is not None else ():
                if index in wanted:
                    known[index] = (Status.SENT, 0, record)
        return known

    async def batch(self, batch: str) -> BatchView | None:
        """The counts of one batch, None for an unknown one."""
        fields = await self.batch_fields(batch)
        return batch_view(batch, fields) if "total" in fields else None

    async def batch_fields(self, batch: str) -> dict[str, bytes]:
        """All that is kept of one batch."""
        name = self._keys.name("batch", batch)
        fields = await answering(partial(self._client.hgetall, name))
        return {key.decode(): value for key, value in fields.items()}

    async def batches(self) -> list[str]:
        """Ids of all batches still remembered, the newest first."""
        start = len(self._keys.name("batch")) + 1
        pattern, cursor = self._keys.name("batch", "*"), 0
        names: set[str] = set()
        await self.now_us()  # a walk names no key: only what does finds a cell that has moved
        while True:
            scan = partial(self._client.scan, cursor, pattern, 1000)
            cursor, found = await answering(scan)
            names.update(name.decode()[start:] for name in found)
            if not int(cursor):
                return sorted(names, reverse=True)

    async def parts(self, batch: str) -> tuple[dict[int, str], str | None]:
        """The accepted parts of a batch (first index -> check value) and its options."""
        name = self._keys.name("batch", batch)
        fields = await answering(partial(self._client.hgetall, name))
        options = fields.get(b"options")
        parts = {
            int(key[2:]): value.decode() for key, value in fields.items() if key.startswith(b"p:")
        }
        return parts, options.decode() if options is not None else None

    async def lane_names(self, providers: Iterable[str]) -> list[str]:
        """Lanes of these providers that hold messages or were visited lately."""
        found: list[str] = []
        for provider in providers:
            name = self._keys.name("lanes", provider)
            lanes = await answering(partial(self._client.zrange, name, 0, -1))
            found += (lane.decode() for lane in lanes)
        return sorted(found)

    async def lanes(self, names: Iterable[str]) -> list[LaneView]:
        """The state of these lanes."""
        wanted, suspensions = list(names), await self.suspensions()
        found = await self._hashes(self._keys.name("lane", lane) for lane in wanted)
        return [
            _lane(lane, fields, suspensions) for lane, fields in zip(wanted, found, strict=True)
        ]

    async def suspensions(self) -> Suspensions:
        """What operators have suspended, of lanes known or not."""
        now_us = await self.now_us()
        names = (self._keys.name("suspended"), self._keys.name("resumed"))
        holding, resumed = await self._hashes(names)
        return read_suspensions(holding, resumed, now_us)

    async def providers(self) -> dict[str, int]:
        """Every provider that had messages -> when a worker claimed of it (us, to some seconds;
        0 = never)."""
        (found,) = await self._hashes([self._keys.name("providers")])
        return {provider: int(at_us) for provider, at_us in found.items()}

    async def actions(self, most: int = 100) -> list[ActionView]:
        """The latest actions of operators, the newest first."""
        name = self._keys.name("audit")
        listed = await answering(
            partial(self._client.zrange, name, 0, most - 1, desc=True, withscores=True)
        )
        if not listed:
            return []
        ids = [action for action, _ in listed]
        kept = await answering(partial(self._client.hmget, self._keys.name("actions"), ids))
        return [
            ActionView(action.decode(), int(at_us), *msgspec.msgpack.decode(value))
            for (action, at_us), value in zip(listed, kept, strict=True)
            if value is not None
        ]

    async def limit_names(self) -> list[str]:
        """Names of all limits that processes or submitters have written."""
        name = self._keys.name("limits")
        return sorted(
            item.decode() for item in await answering(lambda: self._client.smembers(name))
        )

    async def limits(self, names: Iterable[str]) -> dict[str, LimitView]:
        """The state of these limits; those not in the store are left out."""
        wanted, now_us = list(names), await self.now_us()
        found = await self._hashes(self._keys.name("limit", name) for name in wanted)
        return {
            name: limit_view(name, fields, now_us)
            for name, fields in zip(wanted, found, strict=True)
            if "interval" in fields
        }

    async def breaker(self, provider: str) -> BreakerView:
        """The breaker of a provider; closed where it never opened."""
        (fields,) = await self._hashes([self._keys.name("breaker", provider)])
        return BreakerView(fields.get("state", "closed"), int(fields.get("until", "0")))

    async def now_us(self) -> int:
        """The time by the store's clock."""
        return int(await self._clock(self._keys.name("control")))

    async def _hashes(self, names: Iterable[str]) -> list[dict[str, str]]:
        """Whole hashes in one round trip."""
        wanted = list(names)

        async def read() -> list[dict[bytes, bytes]]:
            pipeline = at_cell(self._client, self._keys.tag).pipeline(transaction=False)
            for name in wanted:
                pipeline.hgetall(name)
            return await pipeline.execute()

        return [
            {key.decode(): value.decode("utf-8", "replace") for key, value in fields.items()}
            for fields in await answering(read)
        ]

    async def workers(self) -> int:
        """Workers registered now."""
        return int(await answering(lambda: self._client.zcard(self._keys.name("workers"))))

    async def worker_names(self) -> list[str]:
        """Their names."""
        names = partial(self._client.zrange, self._keys.name("workers"), 0, -1)
        return [name.decode() for name in await answering(names)]

    async def unfinished(self) -> int:
        """Messages queued, held or scheduled."""
        return int(await answering(lambda: self._client.get(self._keys.name("queued"))) or 0)

    async def leaving(self) -> int:
        """Entries on their way to another cell; their messages count as queued or scheduled."""
        return int(await answering(lambda: self._client.hlen(self._keys.name("leaving"))))


def _covers(field: bytes, indexes: Sequence[int]) -> bool:
    """Whether a field of a status hash is a sheet that may hold one of these messages."""
    first, dash, last = field.partition(b"-")
    return bool(dash) and any(int(first) <= index <= int(last) for index in indexes)


def batch_view(batch: str, fields: Mapping[str, bytes]) -> BatchView:
    """A batch of its fields in the store (see the table in `store.keys`)."""
    number = {key: int(value) for key, value in fields.items() if value.lstrip(b"-").isdigit()}
    total, scheduled = number["total"], max(0, number.get("scheduled", 0))
    counts = {status.word: number.get(status.word, 0) for status in COUNTED}
    waiting = total - sum(counts.values())
    scheduled = min(scheduled, waiting)
    head = {"queued": waiting - scheduled, "scheduled": scheduled}
    codes = {
        key: value
        for key, value in number.items()
        if key.partition(":")[0] in ("dead", "suppressed") and ":" in key
    }
    events = {key: number.get(key, 0) for key in ("retried", "deferred")}
    return BatchView(
        batch,
        total,
        head | counts,
        codes,
        events,
        number.get("created", 0),
        fields.get("tenant", b"").decode(),
        fields.get("channel", b"").decode(),
        tuple(fields.get("lanes", b"").decode().split()),
        number.get("due", 0),
    )


def _lane(lane: str, fields: dict[str, str], suspensions: Suspensions) -> LaneView:
    suspension = suspensions.of(lane)

    def number(name: str) -> int:
        return max(0, int(fields.get(name, "0")))

    return LaneView(
        lane,
        tuple(fields.get("limits", "").split()),
        {name: number(f"depth:{name}") for name in CLASSES},
        number("sent"),
        number("retried"),
        number("dead"),
        suspension.until_us if suspension is not None else 0,
        suspension.reason if suspension is not None else "",
        number("paused"),
        number("deferred"),
    )
