"""A cell as the tests of the scripts see it: short calls, a clock that can be moved on, and a look
at where every message is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgpack

from dispatcher.limits import Limit
from dispatcher.messages import (
    Content,
    Envelope,
    Record,
    Row,
    Status,
    decode_body,
    encode_body,
    encode_record,
    new_ulid,
)
from dispatcher.store.claims import (
    NEAR,
    NOTHING,
    Answered,
    Claim,
    ClaimedEntry,
    Grant,
    Lead,
    Wanted,
)
from dispatcher.store.opening import Store
from dispatcher.store.operations import FOREVER, Action, Operations, Suspended
from dispatcher.store.queue import Accepted, Move, NewEntry, NewLane, Outcome, Settlement

LANE = "p/sms/a"
OWN = "provider:p"
PASS_TIME = """
local past = tonumber(ARGV[2])
local fields = { limit = { 'tat', 'pause', 'factored' }, lane = { 'paused' },
  breaker = { 'until' } }
for kind, names in pairs(fields) do
  for _, key in ipairs(redis.call('KEYS', ARGV[1] .. kind .. ':*')) do
    for _, name in ipairs(names) do
      local time = tonumber(redis.call('HGET', key, name) or '0')
      if time > 0 then
        redis.call('HSET', key, name, string.format('%.0f', math.max(0, time - past)))
      end
    end
  end
end
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. 'suspended:*')) do
  for _, pattern in ipairs(redis.call('HKEYS', key)) do
    local value = redis.call('HGET', key, pattern)
    local number, ends, reason = string.match(value, '^(%d+) (%d+) (.*)$')
    redis.call('HSET', key, pattern, string.format('%s %.0f %s', number, ends - past, reason))
  end
end
for _, kind in ipairs({ 'lanes', 'scheduled' }) do
  for _, key in ipairs(redis.call('KEYS', ARGV[1] .. kind .. ':*')) do
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -past, member)
    end
  end
end
"""
"""ARGV: what all keys start with, us. A test has few keys, so it may look for them."""


def body_of(batch: str, rows: Iterable[Row]) -> bytes:
    envelope = Envelope(batch, "default", "sms", "normal", "SHOP", 0, 0, Content(text="Hi"))
    return encode_body(envelope, list(rows))


class Cell:
    """One batch in one cell; `OWN` is the limit of the provider `p` that every lane meets."""

    def __init__(self, store: Store) -> None:
        self.store, self.queue, self.keys = store, store.queue, store.keys
        self.client = store.client
        self.operations = Operations(store.client, store.keys)
        self.batch = new_ulid(0)
        self.accepted = 0
        self._numbers: dict[str, int] = defaultdict(int)

    async def limit(self, name: str = OWN, rate: float = 0, burst: int = 1, **more: Any) -> None:
        """Define a limit in units per second, 0 for none; `more` as in Limit."""
        await self.queue.write_limits([Limit(name, 1e6 / rate if rate else 0.0, burst, **more)])

    async def worker(self, *names: str) -> None:
        for name in names:
            await self.queue.heartbeat(name, first=True)

    async def enqueue(
        self,
        count: int,
        lane: str = LANE,
        *,
        class_: str = "normal",
        tenant: str = "default",
        limits: tuple[str, ...] = (OWN,),
        weight: float = 1.0,
        size: int = 500,
        due_us: int = 0,
        expires_us: int = 0,
        max_queued: int = 0,
        tenant_most: int = 0,
        first: int | None = None,
        cost: int = 1,
    ) -> Accepted:
        """Accept the next `count` messages of the batch as one part, or again the part `first`."""
        first = self.accepted if first is None else first
        self.accepted = max(self.accepted, first + count)
        entries = []
        for start in range(first, first + count, size):
            rows = [Row(n, f"+49151{n:08}") for n in range(start, min(start + size, first + count))]
            body = body_of(self.batch, rows)
            entries.append(NewEntry(lane, class_, len(rows), cost, expires_us, due_us, body))
        return await self.queue.enqueue(
            self.batch,
            first,
            f"check-{first}",
            tenant=tenant,
            channel="sms",
            options="",
            max_queued=max_queued,
            tenant_most=tenant_most,
            lanes=[NewLane(lane, limits, weight)],
            entries=entries,
        )

    async def claim(
        self,
        worker: str,
        room: int = 10_000,
        held: Iterable[tuple[str, int, Sequence[tuple[str, int]]] | Wanted] = (),
        provider: str = "p",
        lead: Lead = NEAR,
        number: int = 0,
        answered: Answered = NOTHING,
    ) -> Claim:
        wanted = [
            item if isinstance(item, Wanted) else Wanted(item[0], 1, item[1], item[2])
            for item in held
        ]
        return await self.queue.claim(
            provider, worker, room, 10, wanted, lead=lead, number=number, answered=answered
        )

    async def claim_entries(self, worker: str, room: int = 10_000) -> list[ClaimedEntry]:
        return entries_of(await self.claim(worker, room))

    async def settle(
        self,
        worker: str,
        *settlements: Settlement,
        number: int | None = None,
        throttled: Iterable[tuple[str, int]] = (),
        breakers: Iterable[tuple[str, int, int, int]] = (),
    ) -> list[bool]:
        if number is None:
            self._numbers[worker] += 1
            number = self._numbers[worker]
        return await self.queue.settle(
            worker,
            number,
            settlements,
            status_seconds=3600,
            throttled=throttled,
            breakers=breakers,
        )

    async def finish(self, worker: str, entries: Iterable[ClaimedEntry]) -> list[bool]:
        """Settle every message of these entries as sent."""
        return await self.settle(worker, *(settlement(entry) for entry in entries))

    async def suspend(self, pattern: str, seconds: float = FOREVER) -> Suspended:
        return await self.operations.suspend(pattern, seconds, action("suspend", pattern))

    async def resume(self, pattern: str) -> Suspended | None:
        return await self.operations.resume(pattern, action("resume", pattern))

    async def pass_time(self, seconds: float) -> None:
        """Let time pass: everything the store has noted a time for lies so much further back."""
        await self.client.eval(PASS_TIME, 0, f"{self.keys.prefix}:", int(seconds * 1e6))

    async def lane(self, lane: str = LANE) -> dict[str, str]:
        return await self._hash("lane", lane)

    async def counts(self) -> dict[str, int]:
        """The counters of the batch."""
        fields = await self._hash("batch", self.batch)
        return {name: int(value) for name, value in fields.items() if value.isdigit()}

    async def limit_state(self, name: str = OWN) -> dict[str, float]:
        fields = await self._hash("limit", name)
        return {key: float(fields[key]) for key in fields.keys() - {"waits", "served", "ramp"}}

    async def held(self, worker: str) -> dict[str, str]:
        return await self._hash("held", worker)

    async def queues(self) -> list[str]:
        """Names of the streams there are."""
        start = len(self.keys.name("queue")) + 1
        names = [name async for name in self.client.scan_iter(self.keys.name("queue", "*"), 1000)]
        return sorted(name.decode()[start:] for name in names)

    async def _hash(self, kind: str, rest: str) -> dict[str, str]:
        fields = await self.client.hgetall(self.keys.name(kind, rest))
        return {name.decode(): value.decode() for name, value in fields.items()}

    async def places(self) -> dict[int, list[str]]:
        """Every place each message is in: queue, held:WORKER, scheduled or a final status."""
        records = await self._records()
        found: dict[int, list[str]] = {index: [] for index in range(self.accepted)}
        for place, body in [*await self._queued(), *await self._scheduled()]:
            for row in decode_body(body)[1]:
                status, hop = records.get(row.index, (Status.QUEUED, -1))
                final = status not in (Status.QUEUED, Status.SCHEDULED)
                if hop < row.hop or (hop == row.hop and not final):
                    found[row.index].append(place)
        for index, (status, _) in records.items():
            if status not in (Status.QUEUED, Status.SCHEDULED):
                found[index].append(status.word)
        return found

    async def _records(self) -> dict[int, tuple[Status, int]]:
        known = await self.store.inspector.records(self.batch, range(self.accepted))
        return {index: (status, hop) for index, (status, hop, _) in known.items()}

    async def _queued(self) -> list[tuple[str, bytes]]:
        found = []
        for queue in await self.queues():
            name = self.keys.name("queue", queue)
            pending = await self.client.xpending_range(name, "workers", "-", "+", 10_000)
            owners = {item["message_id"]: item["consumer"].decode() for item in pending}
            for entry, fields in await self.client.xrange(name):
                owner = owners.get(entry)
                found.append((f"held:{owner}" if owner else "queue", fields[b"body"]))
        return found

    async def _scheduled(self) -> list[tuple[str, bytes]]:
        items = await self.client.hvals(self.keys.name("items"))
        return [("scheduled", msgpack.unpackb(item, raw=True)[6]) for item in items]

    async def check(self, dropped: Iterable[int] = ()) -> dict[int, str]:
        """The one place of each message. Fails when a message is in none or in two of them, or a
        counter does not say what is there. Those `dropped` are only counted, as cancelled."""
        places = await self.places()
        for index in dropped:
            places[index].append("cancelled")
        astray = {index: found for index, found in places.items() if len(found) != 1}
        assert not astray
        await self._check_depths()
        await self._check_batch({index: found[0] for index, found in places.items()})
        return {index: found[0] for index, found in places.items()}

    async def _check_depths(self) -> None:
        waiting: dict[tuple[str, str], int] = defaultdict(int)
        back: dict[tuple[str, str], int] = defaultdict(int)
        for queue in await self.queues():
            name = self.keys.name("queue", queue)
            lane, class_, tenant = queue.rsplit(":", 2)
            pending = await self.client.xpending_range(name, "workers", "-", "+", 10_000)
            taken = {item["message_id"] for item in pending}
            entries = await self.client.xrange(name)
            assert entries, f"{queue} is empty and was not deleted"
            count = sum(int(fields[b"n"]) for entry, fields in entries if entry not in taken)
            waiting[lane, class_] += count
            back[lane, class_] += count if tenant == "~" else 0
        start = len(self.keys.name("lane")) + 1
        async for name in self.client.scan_iter(self.keys.name("lane", "*"), 1000):
            lane = name.decode()[start:]
            fields = await self.lane(lane)
            for class_ in ("urgent", "normal", "bulk"):
                assert int(fields.get(f"depth:{class_}", "0")) == waiting[lane, class_]
                assert int(fields.get(f"back:{class_}", "0")) == back[lane, class_]

    async def _check_batch(self, places: dict[int, str]) -> None:
        counts = await self.counts()
        final = [place for place in places.values() if place.isalpha() and place != "queue"]
        scheduled = final.count("scheduled")
        ended = [place for place in final if place != "scheduled"]
        left = len(places) - len(ended)
        assert counts.get("total", 0) == len(places)
        # An entry that is put aside whole counts with those of its messages that have an outcome.
        put_aside = sum(len(decode_body(body)[1]) for _, body in await self._scheduled())
        assert scheduled <= put_aside == counts.get("scheduled", 0)
        assert counts.get("left", 0) == left
        assert {word: counts.get(word, 0) for word in set(ended)} == {
            word: ended.count(word) for word in set(ended)
        }
        assert int(await self.client.get(self.keys.name("queued")) or 0) == left


def action(what: str, on: str) -> Action:
    return Action(new_ulid(1), "ann", what, on, reason="because")


def entries_of(claim: Claim) -> list[ClaimedEntry]:
    return [entry for grant in claim.grants for entry in grant.entries]


def slots_of(claim: Claim) -> int:
    return sum(grant.count for grant in claim.grants)


def slot_times(claim: Claim, grant: Grant) -> list[float]:
    """When the slots of a grant may be used, in seconds of the store's clock."""
    starts = (grant.offset_us + k * grant.spacing_us for k in range(grant.count))
    return [(claim.now_us + max(0.0, start)) / 1e6 for start in starts]


def rows_of(entry: ClaimedEntry) -> list[Row]:
    return decode_body(entry.body)[1]


def outcome(row: Row, status: Status = Status.SENT, hop: int | None = None) -> Outcome:
    hop = row.hop if hop is None else hop
    record = Record(0, LANE, row.to)
    letter = b"letter" if status in (Status.DEAD, Status.UNKNOWN) else None
    return Outcome(row.index, hop, status, encode_record(status, hop, record), letter)


def settlement(
    entry: ClaimedEntry,
    status: Status = Status.SENT,
    rows: Sequence[Row] | None = None,
    *,
    done: bool = True,
) -> Settlement:
    """One status for the given messages of an entry, by default for all."""
    rows = rows_of(entry) if rows is None else rows
    outcomes = [outcome(row, status) for row in rows]
    return Settlement(entry.queue, entry.id, entry.batch, done, outcomes, [], {})


def put_back(entry: ClaimedEntry, *, wait_us: int = 0) -> Settlement:
    """All messages of an entry once more, at once or later."""
    lane, class_, _ = entry.queue.rsplit(":", 2)
    again = [Row(row.index, row.to, hop=row.hop + 1) for row in rows_of(entry)]
    status = Status.SCHEDULED if wait_us else Status.QUEUED
    outcomes = [outcome(row, status) for row in again]
    body = body_of(entry.batch, again)
    move = Move(wait_us, lane, class_, entry.count, entry.cost, entry.expires_us, body)
    counters = {"retried": len(again)}
    return Settlement(entry.queue, entry.id, entry.batch, True, outcomes, [move], counters)
