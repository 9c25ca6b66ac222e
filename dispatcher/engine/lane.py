"""The slots and messages of one lane in one worker.

Slots belong to the lane, not to the message: at each slot goes the most urgent message held. A slot
that was not used in time is gone; its message needs another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from dispatcher.engine.clock import Moment
from dispatcher.engine.entry import HeldEntry
from dispatcher.messages import CLASSES, Row
from dispatcher.store.claims import Grant

SLOT_SECONDS = 0.04
"""How long after its time a slot may still be used: with the way through sockets and a busy machine
it stays below the 50 ms that are promised."""
BURN_SHARE = 0.1
"""A worker that lets a larger share of a grant lapse did not keep up with it."""
BEHIND_RUNS = 3
"""Grants in a row it did not keep up with before it asks for less: one stall is not a trend, and
grants that are too small lose slots of their own."""
LEAST_SHARE = 0.1
REGROW_SECONDS = 60.0
"""After so long requests that were too large are tried with twice as many messages."""


@dataclass(slots=True)
class SlotRun:
    """Slots of one grant: `count - used` are left, the next at `first + used * spacing` (seconds,
    local clock). They lapse `slack` seconds after; None: they never do (a lane without a rate)."""

    first: float
    spacing: float
    count: int
    slack: float | None
    used: int = 0
    burnt: int = 0

    def next_at(self) -> float:
        """When the next slot may be used."""
        return self.first + max(0.0, self.used * self.spacing)


def slot_runs(grant: Grant, begin: Moment, now: float) -> Iterator[SlotRun]:
    """The slots of a grant that came `now`, by the local clock. They count from `begin`, a moment
    of the store's that is known no better than this, which leaves them less slack."""
    offset, spacing, count = grant.offset_us / 1e6, grant.spacing_us / 1e6, grant.count
    if not grant.paced:
        yield SlotRun(min(begin.latest, now) + max(0.0, offset), spacing, count, None)
        return
    slack = SLOT_SECONDS - (begin.latest - begin.earliest)
    if offset < 0:  # a burst: slots in the past may be used at once
        past = min(count, int(-offset / spacing) + 1)
        yield SlotRun(begin.latest, 0.0, past, slack)
        offset, count = offset + past * spacing, count - past
    yield SlotRun(begin.latest + max(0.0, offset), spacing, count, slack)


class Send(msgspec.Struct, frozen=True):
    """Messages of one entry to send now."""

    entry: HeldEntry
    rows: Sequence[Row]


def messages(request: Sequence[Send]) -> int:
    """How many messages a request carries."""
    return sum(len(send.rows) for send in request)


class LaneRun:
    """What this worker holds of a lane, of messages of one cost. `batch` messages share a request;
    where a limit counts requests (`whole`), each uses up that many slots, be it full or not.
    `paced`: the last slots had their times."""

    def __init__(self, name: str, batch: int = 1, *, cost: int = 1, whole: bool = False) -> None:
        self.name = name
        self.cost = cost
        self.whole = whole
        self._batch = batch
        self._fits = batch
        self._regrow = 0.0
        self.slots: deque[SlotRun] = deque()
        self.entries: dict[str, deque[HeldEntry]] = {name: deque() for name in CLASSES}
        self.share = 1.0
        self._requests: deque[list[Send]] = deque()
        self._since = 0.0
        self._credit = 0
        self.wanted_since = 0.0
        self.paced = False
        self._last = 0
        self._behind = 0

    def __repr__(self) -> str:
        return f"<LaneRun {self.name}: {self.unsent()} messages, {self.slots_left()} slots>"

    def grant(self, run: SlotRun, now: float) -> None:
        """Take over the slots of one grant."""
        self.wanted_since = now
        if run.count:
            self.paced = run.slack is not None
            self.slots.append(run)
            self._last = run.count if self.share == 1.0 else self._last

    def keep(self, until: float) -> None:
        """No slots are to be expected before this time; until then nobody misses them."""
        self.wanted_since = max(self.wanted_since, until)

    def idle(self) -> bool:
        """Nothing is held, and nothing is to be remembered."""
        return not (self.slots or self._requests or self._behind or any(self.held())) and (
            self.share == 1.0
        )

    def held(self) -> Iterator[HeldEntry]:
        """All entries with unsent messages, the most urgent first."""
        for queue in self.entries.values():
            yield from (entry for entry in queue if entry.waits())

    def slots_left(self) -> int:
        """Slots granted and neither used nor lapsed."""
        return sum(run.count - run.used for run in self.slots)

    def unsent(self) -> int:
        """Messages held that have not gone out."""
        return sum(entry.unsent() for entry in self.held())

    def most(self) -> int:
        """Slots to ask for at most, 0 for any: less than last time while slots lapse."""
        return 0 if self.share == 1.0 else max(1, int(self.share * self._last))

    def wants(self) -> list[tuple[str, int]]:
        """Slots to book: per entry (its name in `held`) how many of its messages have none."""
        need = self.unsent() - self.slots_left()
        if need <= 0 and self.whole and self._requests:
            return self._rest_of_request()
        asks: list[tuple[str, int]] = []
        for entry in self.held():
            some = min(need, len(entry.rows) - max(entry.budget, entry.cursor))
            if some > 0:
                asks.append((entry.claimed.field, some))
                need -= some
        if need > 0:  # their rows may be sent already; only the slots lapsed
            first = next(self.held())
            rest = [ask for ask in asks if ask[0] != first.claimed.field]
            own = sum(count for field, count in asks if field == first.claimed.field)
            asks = [(first.claimed.field, own + need), *rest]
        return asks

    def book(self, booked: Iterable[tuple[str, int]]) -> None:
        """Slots came for entries that `wants` asked for."""
        entries = {entry.claimed.field: entry for entry in self.held()}
        for name, count in booked:
            entry = entries.get(name)
            if entry is not None:
                entry.budget = min(len(entry.rows), max(entry.budget, entry.cursor) + count)

    def drop_slots(self) -> None:
        """Forget unused slots; their messages stay and need new ones."""
        self.slots.clear()

    def due(self, now: float) -> float | None:
        """When the next slot is to be looked at, None without slots; lapsed slots burn."""
        while self.slots:
            run = self.slots[0]
            while (
                run.slack is not None and run.used < run.count and run.next_at() + run.slack < now
            ):
                run.used += 1
                run.burnt += 1
            if run.used < run.count:
                return run.next_at()
            self._retire(self.slots.popleft())
        return None

    def ripe(self, now: float) -> int:
        """How many slots of those that `due` found may be used by now."""
        run = self.slots[0]
        left = run.count - run.used
        return left if run.spacing <= 0 else min(left, 1 + int((now - run.next_at()) / run.spacing))

    def take(self, most: int, urgent_only: bool = False) -> Send | None:
        """Messages for the slots that `due` found, at most `most` and all of one entry; None: then
        the slots stay."""
        for class_, queue in self.entries.items():
            if urgent_only and class_ != CLASSES[0]:
                return None
            while queue and not queue[0].waits():
                queue.popleft()
            for entry in queue:
                if entry.waits() and (rows := entry.take(most)):
                    return Send(entry, rows)
        return None

    def untake(self, send: Send) -> None:
        """Messages that were taken and could not be written need a slot again, before others."""
        entry = send.entry
        queue = self.entries[entry.class_]
        if entry not in queue:
            queue.appendleft(entry)
        entry.again += send.rows

    def write_by(self) -> float | None:
        """Until when a message of the slot that `due` found may be written."""
        run = self.slots[0]
        return None if run.slack is None else run.next_at() + run.slack

    def use_slots(self, count: int) -> None:
        """Slots that `due` found are used."""
        self.slots[0].used += count
        self._credit += count

    def waste_slots(self, count: int) -> None:
        """There is nothing to use them for but to complete requests under way."""
        self.use_slots(count)
        self._credit = min(self._credit, len(self._requests) * self._batch)

    def divide(self, request: Sequence[Send], now: float) -> None:
        """A request was too large: its messages go in smaller ones, each of which has slots of its
        own."""
        self._fits = max(1, min(self._fits, messages(request) // 2))
        self._regrow = now + REGROW_SECONDS
        for send in request:
            self.untake(send)

    def owed(self) -> int:
        """Slots still missing for requests that are full with fewer messages than they have
        slots."""
        if self._fits == self._batch or not self._requests:
            return 0
        if not self.whole or messages(self._requests[-1]) < self._fits:
            return 0
        return max(0, len(self._requests) * self._batch - self._credit)

    def collect(self, send: Send, now: float) -> None:
        """Messages whose slots have come join the request under way; all of one request share an
        envelope."""
        entry, rows = send.entry, send.rows
        if self._fits < self._batch and now >= self._regrow:
            self._fits, self._regrow = min(self._batch, 2 * self._fits), now + REGROW_SECONDS
        while rows:
            last = self._requests[-1] if self._requests else None
            room = self._fits - messages(last) if last else 0
            if not last or room <= 0 or last[0].entry.envelope != entry.envelope:
                last, room = [], self._fits
                self._requests.append(last)
                self._since = now
            last.append(Send(entry, rows[:room]))
            rows = rows[room:]

    def collected(self) -> int:
        """Messages that wait in requests under way."""
        return sum(map(messages, self._requests))

    def ready(self, now: float, wait: float) -> list[Send] | None:
        """The next request that may go out now: full, followed by another, urgent, or begun `wait`
        seconds ago."""
        if not self._requests or (self.whole and self._credit < self._batch):
            return None
        first = self._requests[0]
        alone = len(self._requests) == 1 and messages(first) < self._fits
        if alone and first[0].entry.class_ != CLASSES[0] and now < self._since + wait:
            return None
        self._credit = self._credit - self._batch if self.whole else 0
        return self._requests.popleft()

    def ready_at(self, wait: float) -> float | None:
        """When `ready` is worth another look though no slot comes; None: not before one comes."""
        if not self._requests or (self.whole and self._credit < self._batch):
            return None
        return self._since + wait

    def _rest_of_request(self) -> list[tuple[str, int]]:
        """Slots still missing for the requests under way."""
        missing = len(self._requests) * self._batch - self._credit - self.slots_left()
        field = self._requests[0][0].entry.claimed.field
        return [(field, missing)] if missing > 0 else []

    def _retire(self, run: SlotRun) -> None:
        if run.slack is None:
            return
        if run.burnt <= BURN_SHARE * run.count:
            self._behind = 0
            self.share = min(1.0, self.share * 2)
            return
        self._behind += 1
        if self._behind >= BEHIND_RUNS:
            self.share = max(LEAST_SHARE, self.share / 2)
