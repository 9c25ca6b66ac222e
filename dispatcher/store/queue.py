"""The path of an entry through the store: enqueue, claim, settle, and who holds what.

Each method is one script call; `lua/` says what the scripts do and why running one twice does no
harm. All raise StoreUnavailable when no answer came: the call may or may not have been carried out,
and may be made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import redis.asyncio as aioredis

from dispatcher.errors import DispatcherError, StoreFull, TenantFull
from dispatcher.limits import Limit
from dispatcher.messages import Attempt, Status
from dispatcher.store.cells_client import at_cell
from dispatcher.store.claims import NEAR, NOTHING, Answered, Claim, Lead, Wanted, read_grant
from dispatcher.store.keys import Keys
from dispatcher.store.limit_plans import limit_plans
from dispatcher.store.memory import Memory
from dispatcher.store.scripts import Script

_pack = msgspec.msgpack.Encoder().encode


class WorkerLost(DispatcherError):
    """The store has declared this worker dead and given away what it held."""


class NewEntry(msgspec.Struct, frozen=True):
    """One entry to enqueue. `cost` is the segments of each message, `due_us` 0 for at once."""

    lane: str
    class_: str
    count: int
    cost: int
    expires_us: int
    due_us: int
    body: bytes


class NewLane(NamedTuple):
    """What a lane must know when its first entry arrives."""

    lane: str
    limits: tuple[str, ...]
    weight: float = 1.0


class Accepted(NamedTuple):
    """The answer of an enqueue. `repeated` when the part had been accepted before; `check` is then
    the check value it had."""

    messages: int
    repeated: bool = False
    check: str = ""


class Heartbeat(NamedTuple):
    """The answer of a heartbeat: the store's clock and every worker's last heartbeat."""

    now_us: int
    control: int
    beats: dict[str, str]


class Letter(msgspec.Struct, array_like=True, frozen=True):
    """A dead letter: what is needed to inspect it and to send it again. `cost` as in NewEntry."""

    lane: str
    class_: str
    status: str
    code: str
    detail: str
    provider_id: str | None
    history: tuple[Attempt, ...]
    expires_us: int
    body: bytes
    cost: int = 1


class Outcome(msgspec.Struct, frozen=True):
    """What became of one message of an entry: `value` as `messages.encode_record` writes it;
    `letter` is a packed Letter for dead and unknown ones."""

    index: int
    hop: int
    status: Status
    value: bytes
    letter: bytes | None = None


class Move(msgspec.Struct, frozen=True):
    """Messages put back: into the queue of their lane, at once or `wait_us` after it is settled.
    `ambiguous` as in ClaimedEntry, for an entry put back as it came; `reclaims` of those that no
    provider has answered since. `name` is the move's own, for one that may lead to another cell: no
    other move of any message has it."""

    wait_us: int
    lane: str
    class_: str
    count: int
    cost: int
    expires_us: int
    body: bytes
    ambiguous: int | None = None
    reclaims: int = 0
    name: str = ""


class Sheet(NamedTuple):
    """Messages of an entry that were sent at their first attempt, all of one status block: the
    lowest and the highest index, how many, and what `messages.encode_sheet` made of them."""

    first: int
    last: int
    messages: int
    value: bytes


class Settlement(NamedTuple):
    """All that is known of one entry by now; `done` when nothing of it is left. `segments` are of
    its messages sent."""

    queue: str
    id: str
    batch: str
    done: bool
    outcomes: Sequence[Outcome]
    moves: Sequence[Move]
    counters: dict[str, int]
    sheets: Sequence[Sheet] = ()
    segments: int = 0


class Queue:
    """The scripts of one cell, typed. `confirming` is for what must be safe when it counts as
    accepted."""

    def __init__(
        self, client: aioredis.Redis, keys: Keys, confirming: aioredis.Redis | None = None
    ) -> None:
        self.keys = keys
        self._enqueue = Script(confirming or client, keys, "enqueue")
        self._limits = Script(client, keys, "limits")
        self._claim = Script(client, keys, "claim")
        self._settle = Script(client, keys, "settle")
        self._heartbeat = Script(client, keys, "heartbeat")
        self._reclaim = Script(client, keys, "reclaim")
        self._sweep = Script(client, keys, "sweep")
        self._writable = Script(client, keys, "writable")
        self._memory = Memory(at_cell(client, keys.tag))

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
        """Accept one part of a batch, at most once. `max_queued` and `tenant_most` are the most
        messages without an outcome, of all tenants and of this one, 0 for any. A batch that has no
        message here is forgotten after `keep_seconds` (0: never). Raises StoreFull."""
        await self._memory.check()
        plan = {"own": tenant_most, "keep": int(keep_seconds), **_contents(lanes, entries)}
        reply = await self._enqueue(
            self.keys.name("batch", batch),
            batch, part, check, tenant, channel, options, max_queued, _pack(plan),
            *(entry.body for entry in entries),
        )  # fmt: skip
        if reply[0] == b"full":
            raise store_full(max_queued, int(reply[1]))
        if reply[0] == b"tenant_full":
            raise tenant_full(tenant, tenant_most, int(reply[1]))
        return _accepted(reply)

    async def enqueue_portion(
        self,
        batch: str,
        part: int,
        check: str,
        whose: Sequence[str],
        after: str,
        lanes: Iterable[NewLane],
        entries: Sequence[NewEntry],
    ) -> Accepted:
        """Take what this cell gets of a part that is spread over several, if the check value of the
        part is `after` here by now ("" for none). `whose` are tenant, channel and options. Raises
        StoreFull."""
        await self._memory.check()
        plan = _pack({"after": after, **_contents(lanes, entries)})
        bodies = (entry.body for entry in entries)
        name = self.keys.name("batch", batch)
        return _accepted(await self._enqueue(name, batch, part, check, *whose, 0, plan, *bodies))

    async def check_memory(self) -> None:
        """Whether there is room for more. Raises StoreFull, StoreUnavailable."""
        await self._memory.check()

    async def check_writable(self) -> None:
        """Whether the store would take a write now. Raises StoreUnavailable, StoreFull."""
        await self._writable(self.keys.name("control"))

    async def write_limits(
        self, limits: Iterable[Limit], lanes: Iterable[NewLane] = (), *, lost: bool = False
    ) -> int:
        """Write limits and then the limits of lanes known already, some at a time: of very many it
        would hold up the store. Returns the control number. `lost`: the store may have been
        emptied, and slots of limits new to it be in use still."""
        known, number = ((lane.lane, lane.limits) for lane in lanes), 0
        for plan in limit_plans(limits, known, lost=lost):
            number = int(await self._limits(self.keys.name("control"), plan))
        return number

    async def claim(
        self,
        provider: str,
        worker: str,
        room: int,
        probe_seconds: float,
        held: Iterable[Wanted],
        probe: int = 1,
        lead: Lead = NEAR,
        number: int = 0,
        answered: Answered = NOTHING,
    ) -> Claim:
        """Ask for up to `room` slots; `held` says what this worker has of its lanes already;
        `number` counts its claims of this provider. Of a provider that failed up to `probe`
        messages are given, to see whether it is back; their request may take `probe_seconds`.
        Slots begin when the reply of a store that is far away can be here (`lead`). Raises
        WorkerLost, also where the store has forgotten what it had `answered`."""
        reply = await self._claim(
            self.keys.name("lanes", provider),
            provider, worker, room, probe_seconds,
            _pack([[item.lane, item.cost, item.most, *item.fields] for item in held]), probe,
            int(lead.back * 1e6), int((lead.there + lead.back) * 1e6), number, *answered,
        )  # fmt: skip
        _check(reply, worker)
        state, now, control, until, skipped, grants, awaited = reply
        return Claim(
            state.decode(),
            int(now),
            int(control),
            int(until),
            [name.decode() for name in skipped],
            [read_grant(item) for item in grants],
            awaited == 1,
            awaited == 2,
        )

    async def settle(
        self,
        worker: str,
        number: int,
        settlements: Sequence[Settlement],
        *,
        status_seconds: float,
        throttled: Iterable[tuple[str, int]] = (),
        breakers: Iterable[tuple[str, int, int, int]] = (),
    ) -> list[bool]:
        """Write outcomes. `number` counts the settles of this worker from 1 on; the very same call
        again has the same, and a lower one is of a call given up for lost, which writes nothing.
        Returns per settlement whether it was this worker's to write.
        `throttled` is (limit, pause in us), `breakers` (provider, answers, failures, 1 if down).
        Raises WorkerLost, also where the store has forgotten the settle before."""
        plan = {
            "entries": [self._settlement(item) for item in settlements],
            "throttled": list(throttled),
            "breakers": list(breakers),
        }
        reply = await self._settle(
            self.keys.name("held", worker),
            worker, number, int(status_seconds), _pack(plan),
            *(blob for item in settlements for blob in _blobs(item)),
        )  # fmt: skip
        _check(reply, worker)
        return [verdict == 1 for verdict in reply[1]]

    def leaves(self, move: Move) -> bool:
        """Whether a move leads to another cell."""
        return bool(move.name) and self.keys.place(move.lane) != self.keys.cell

    async def heartbeat(self, worker: str, *, first: bool = False, lease: float = 0.0) -> Heartbeat:
        """Renew (or with `first` register) a worker; no other may take it for dead before `lease`
        seconds, however short its own lease is. Raises WorkerLost."""
        word, lease_us = "first" if first else "again", int(lease * 1_000_000)
        reply = await self._heartbeat(self.keys.name("workers"), worker, word, lease_us)
        if reply[0] == b"lost":
            raise WorkerLost(f"worker {worker} was declared dead")
        items = [item.decode() for item in reply[3]]
        beats = dict(zip(items[::2], items[1::2], strict=True))
        return Heartbeat(int(reply[1]), int(reply[2]), beats)

    async def reclaim_dead(self, worker: str, beat: str, lease: float) -> int | None:
        """Put back what a silent worker held, if its heartbeat is still `beat` and older than the
        lease, its own or this one (0: it is known to have ended). Returns the messages put back,
        None when it is not dead."""
        return await self._put_back(worker, "dead", int(lease * 1_000_000), beat)

    async def reclaim_unseen(
        self,
        worker: str,
        provider: str,
        number: int,
        known: Iterable[str],
        answered: Answered = NOTHING,
    ) -> int:
        """Put back what this worker holds of a provider without knowing it (a lost reply), unless
        it has claimed since its claim of this `number`. Raises WorkerLost where the store has
        forgotten what it had `answered`."""
        numbers = (number, *answered)
        return await self._put_back(worker, "unseen", 0, provider, *numbers, *known) or 0

    async def leave(self, worker: str) -> int:
        """End this worker; what it still held goes back."""
        return await self._put_back(worker, "leave", 0, "") or 0

    async def sweep(self, dead_seconds: float, most: int = 1000) -> int:
        """Forget dead letters older than this; the number forgotten."""
        retention_us = int(dead_seconds * 1_000_000)
        return int(await self._sweep(self.keys.name("dead"), retention_us, most))

    def _settlement(self, item: Settlement) -> tuple[Any, ...]:
        outcomes = [(o.index, o.hop, o.status.value, 1 if o.letter else 0) for o in item.outcomes]
        moves = [
            (
                float(m.wait_us),
                m.lane,
                m.class_,
                m.count,
                m.cost,
                float(m.expires_us),
                -1 if m.ambiguous is None else m.ambiguous,
                m.reclaims,
                m.name if self.leaves(m) else "",
            )
            for m in item.moves
        ]
        done = 1 if item.done else 0
        sheets = [(sheet.first, sheet.last, sheet.messages) for sheet in item.sheets]
        return (item.queue, item.id, done, outcomes, moves, item.counters, item.batch, sheets)

    async def _put_back(self, worker: str, *arguments: Any) -> int | None:
        moved = 0
        while True:
            reply = await self._reclaim(self.keys.name("held", worker), worker, *arguments)
            _check(reply, worker)
            if reply[0] == b"alive":
                return moved or None
            moved += int(reply[2])
            if reply[0] == b"done":
                return moved


def _check(reply: list[Any], worker: str) -> None:
    """Raises WorkerLost."""
    if reply[0] == b"lost":
        raise WorkerLost(f"worker {worker} was declared dead")
    if reply[0] == b"forgotten":
        raise WorkerLost(f"the store has forgotten what worker {worker} had written")


def store_full(most: int, queued: int) -> StoreFull:
    """The error for a part beyond `[store] max_queued`."""
    return StoreFull(f"[store] max_queued = {most} reached: {queued} queued")


def tenant_full(tenant: str, most: int, queued: int) -> TenantFull:
    """The error for a part beyond the `max_queued` of a tenant."""
    return TenantFull(f"[tenants.{tenant}] max_queued = {most} reached: {queued} queued")


def _contents(lanes: Iterable[NewLane], entries: Iterable[NewEntry]) -> dict[str, Any]:
    return {
        "lanes": [(lane.lane, " ".join(lane.limits), str(lane.weight)) for lane in lanes],
        "entries": [
            (e.lane, e.class_, e.count, e.cost, float(e.expires_us), float(e.due_us))
            for e in entries
        ],
    }


def _accepted(reply: Sequence[Any]) -> Accepted:
    if reply[0] == b"repeated":
        return Accepted(0, True, reply[1].decode())
    return Accepted(int(reply[1]))


def _blobs(item: Settlement) -> Iterable[bytes]:
    for sheet in item.sheets:
        yield sheet.value
    for outcome in item.outcomes:
        yield outcome.value
        if outcome.letter is not None:
            yield outcome.letter
    for move in item.moves:
        yield move.body
