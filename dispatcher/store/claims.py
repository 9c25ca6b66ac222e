"""What a worker asks the store for, and what it gets: entries and the slots of their messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

RETURNED = "~"
"""In the place of the tenant: the queue of messages that were put back."""


SUSPECT = 3
"""Reclaims from which a worker holds an entry only when it holds no other such (lua/shares.lua)."""
POISON = 4
"""Reclaims from which it was the only suspect of a worker that died: it is halved, or dead."""


class ClaimedEntry(msgspec.Struct, frozen=True):
    """One entry as claimed. `ambiguous` is None for a fresh entry; for one put back it is how many
    of its first rows may have been sent; `slots` are for the rows after those. `mark` is "",
    "expired" or "cancelled"; `reclaims` is how many workers have died with it."""

    queue: str
    id: str
    slots: int
    mark: str
    count: int
    cost: int
    batch: str
    expires_us: int
    body: bytes
    ambiguous: int | None
    reclaims: int

    @property
    def field(self) -> str:
        """Its name in `held`."""
        return f"{self.queue}|{self.id}"

    @property
    def fresh(self) -> bool:
        """None of its messages was put back: they never had an outcome."""
        return not self.queue.endswith(f":{RETURNED}")


class Wanted(NamedTuple):
    """What a worker holds of a lane, of one cost: the most slots it can use (0 = any), and entries
    by their names in `held` with how many of their messages have no slot."""

    lane: str
    cost: int
    most: int
    fields: Sequence[tuple[str, int]]


class Lead(NamedTuple):
    """How far away the store is: seconds from here to there and back. Zero where it is near."""

    there: float
    back: float


NEAR = Lead(0.0, 0.0)


class Answered(NamedTuple):
    """The numbers of a worker's last claim of a provider and of its last settle that the store has
    answered; a store that knows of fewer has forgotten some."""

    claim: int
    settle: int


NOTHING = Answered(0, 0)


class Grant(msgspec.Struct, frozen=True):
    """Slots of one lane, for messages of one cost: `count` of them, the first `offset_us` after the
    claim and its `Lead.back`, then one every `spacing_us`. Without a rate (`paced` false) all may
    be used at once and none expires. `booked` of them are for entries held already, by their names
    in `held`."""

    lane: str
    cost: int
    offset_us: int
    spacing_us: float
    count: int
    paced: bool
    booked: list[tuple[str, int]]
    entries: list[ClaimedEntry]


class Claim(NamedTuple):
    """The answer of a claim; `breaker` is closed, open, half or probe, `next_us` the time until
    something may be due. `awaited`: a limit shared with others is left to this worker then;
    `contended`: one of its lanes waits for a limit that another lane was served from."""

    breaker: str
    now_us: int
    control: int
    next_us: int
    skipped: list[str]
    grants: list[Grant]
    awaited: bool
    contended: bool


def read_grant(item: list[Any]) -> Grant:
    """One grant of a claim's reply."""
    lane, cost, offset, spacing, count, paced, booked, entries = item
    return Grant(
        lane.decode(),
        cost,
        int(offset),
        float(spacing),
        count,
        paced == 1,
        [(field.decode(), slots) for field, slots in booked],
        [_entry(entry) for entry in entries],
    )


def _entry(item: list[Any]) -> ClaimedEntry:
    queue, entry_id, slots, mark, flat = item
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    put_back = b"a" in fields or b"r" in fields
    return ClaimedEntry(
        queue.decode(),
        entry_id.decode(),
        slots,
        mark.decode(),
        int(fields[b"n"]),
        int(fields[b"c"]),
        fields[b"batch"].decode(),
        int(fields[b"expires"]),
        fields[b"body"],
        int(fields.get(b"a", 0)) if put_back else None,
        int(fields.get(b"r", 0)),
    )
