"""The slots and messages of one lane in one worker.

Slots belong to the lane, not to the message: at each slot goes the most urgent message held. A slot
that was not used in time is gone; its message needs another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dispatcher.engine.entry import HeldEntry
from dispatcher.messages import CLASSES, Row

SLOT_SECONDS = 0.05
"""How long after its time a slot may still be used."""
BURN_SHARE = 0.1
"""A worker that lets a larger share of a grant lapse asks for less."""


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


class Send(NamedTuple):
    """One message to send now."""

    entry: HeldEntry
    row: Row


class LaneRun:
    """What this worker holds of a lane."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.slots: deque[SlotRun] = deque()
        self.entries: dict[str, deque[HeldEntry]] = {name: deque() for name in CLASSES}
        self.share = 1.0
        self.granted_at = 0.0
        self._last = 0

    def __repr__(self) -> str:
        return f"<LaneRun {self.name}: {self.unsent()} messages, {self.slots_left()} slots>"

    def grant(self, run: SlotRun, now: float) -> None:
        """Take over the slots of one grant."""
        self.granted_at = now
        if run.count:
            self.slots.append(run)
            self._last = run.count if self.share == 1.0 else self._last

    def held(self) -> Iterator[HeldEntry]:
        """All entries with unsent messages, the most urgent first."""
        for queue in self.entries.values():
            yield from (entry for entry in queue if entry.cursor < len(entry.rows))

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

    def book(self, asked: Sequence[tuple[str, int]], booked: int) -> None:
        """Slots came for what `wants` asked, in that order."""
        entries = {entry.claimed.field: entry for entry in self.held()}
        for name, count in asked:
            some = min(count, booked)
            booked -= some
            entry = entries.get(name)
            if entry is not None:
                entry.budget = min(len(entry.rows), max(entry.budget, entry.cursor) + some)

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

    def take(self, urgent_only: bool = False) -> Send | None:
        """The message for the slot that `due` found, or None: then the slot stays."""
        for class_, queue in self.entries.items():
            if urgent_only and class_ != CLASSES[0]:
                return None
            while queue and queue[0].cursor >= len(queue[0].rows):
                queue.popleft()
            for entry in queue:
                if entry.sendable():
                    row = entry.rows[entry.cursor]
                    entry.cursor += 1
                    return Send(entry, row)
        return None

    def use_slot(self) -> None:
        """The slot that `due` found is used, or there is nothing to use it for."""
        self.slots[0].used += 1

    def _retire(self, run: SlotRun) -> None:
        if run.slack is None:
            return
        if run.burnt > BURN_SHARE * run.count:
            self.share = max(0.05, self.share / 2)
        else:
            self.share = min(1.0, self.share * 1.5)
