"""What a simulator has seen: one entry per message, and counts.

Entries are kept as MessagePack, about 250 bytes each, so that a long run fits into memory.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice

import msgspec

from dispatcher.simulator.provider import Event, Submission

MAX_REFUSED = 10_000
"""Refused messages that are listed one by one; those beyond are only counted."""
_LINES_PER_PIECE = 500


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One message as it arrived.

    `event` is accepted, repeat (taken before under the same key; `id` is that of the first time)
    or refused (then `code` says why). `id` is the provider's id. `key` is the Idempotency-Key and
    `message` the sender's own id: `id` in the body, or a query parameter `m` or `id` of a status
    callback. `text` is the start of the text's SHA-1. `arrived_ns` is the simulator's monotonic
    clock, `wall_us` the time in µs since 1970.
    """

    event: Event
    account: str
    id: str
    code: str
    to: str
    sender: str
    key: str
    message: str
    text: str
    arrived_ns: int
    wall_us: int


class Counts(msgspec.Struct):
    """Totals since the start or the last `clear`. Messages, except where it says otherwise."""

    requests: int = 0
    """HTTP requests to providers (those to the control endpoints are left out)."""
    connections: int = 0
    """TCP connections accepted."""
    accepted: int = 0
    repeats: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    """By the provider's code, or the fault's name."""
    accepted_by_account: Counter[str] = msgspec.field(default_factory=Counter)


class Journal:
    """Entries in order of arrival. An entry's number is its place, from 0."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Entry)
        self.clear()

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Forget all entries and counts."""
        self._rows: list[bytes] = []
        self._refused_listed = 0
        self.counts = Counts()

    def add(
        self,
        event: Event,
        account: str,
        submission: Submission,
        arrived_ns: int,
        id: str = "",
        code: str = "",
    ) -> None:
        """Count one message and list it. `account` is its label, such as `webhook/demo`."""
        if not self._count(event, account, code):
            return
        text = hashlib.sha1(submission.text.encode(), usedforsecurity=False).hexdigest()[:12]
        entry = Entry(
            event,
            account,
            id,
            code,
            submission.to,
            submission.sender,
            submission.key,
            submission.message,
            text,
            arrived_ns,
            time.time_ns() // 1000,
        )
        self._rows.append(self._encoder.encode(entry))

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from number `start` on that are there now."""
        rows = islice(self._rows, start, len(self._rows))
        return map(self._decoder.decode, rows)

    def lines(self, start: int = 0) -> Iterator[bytes]:
        """The same as JSON Lines, many in one piece. `n` is an entry's number."""
        return _lines(self.entries(start), start)

    def _count(self, event: Event, account: str, code: str) -> bool:
        """Count a message; False when it is not to be listed."""
        counts = self.counts
        if event == "accepted":
            counts.accepted += 1
            counts.accepted_by_account[account] += 1
        elif event == "repeat":
            counts.repeats += 1
        else:
            counts.refused[code] += 1
            self._refused_listed += 1
            return self._refused_listed <= MAX_REFUSED
        return True


def _lines(entries: Iterator[Entry], start: int) -> Iterator[bytes]:
    numbers = count(start)
    while piece := list(islice(entries, _LINES_PER_PIECE)):
        documents = ({"n": next(numbers), **msgspec.structs.asdict(entry)} for entry in piece)
        yield b"".join(msgspec.json.encode(document) + b"\n" for document in documents)
