"""One entry in the hands of a worker: what of it may be sent, what has become of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import cast

import msgspec

from dispatcher import metrics
from dispatcher.errors import InvalidMessage
from dispatcher.exchange import Accepted, BatchProvider, HttpRequest, Outgoing, Provider
from dispatcher.messages import (
    HISTORY,
    Attempt,
    Envelope,
    Record,
    Row,
    SentRow,
    Status,
    encode_body,
    encode_record,
    encode_sheet,
    message_id,
)
from dispatcher.policy.routing import of_lane, pick_sender, sender_pool
from dispatcher.settings import Config
from dispatcher.store.claims import ClaimedEntry
from dispatcher.store.keys import STATUS_BLOCK
from dispatcher.store.queue import Letter, Move, Outcome, Settlement, Sheet
from dispatcher.template import Template

_INDEX = itemgetter(0)
RECIPIENT_LIMIT = "recipient_limit"
"""The code of a message that waits for its recipient's turn."""


@dataclass(slots=True)
class HeldEntry:
    """Rows before `cursor` are gone; rows before `budget` may be sent; `skip` are positions whose
    outcome was known before; `again` are rows that were taken and could not be sent. `left` rows
    have neither an outcome nor been put back; `later` are those put back since the last settlement,
    by the time, the lane and the reclaims that they share. From `send_by_us` on (0: never) their
    recipients' turns are over. `segments` are those of each message, or by index where they differ;
    0: none are counted. It is `written` when the store has taken its last outcome, `lost` when
    another worker has taken it over."""

    claimed: ClaimedEntry
    lane: str
    class_: str
    envelope: Envelope
    rows: Sequence[Row]
    request: Callable[[Sequence[Row]], HttpRequest]
    budget: int
    left: int
    cursor: int = 0
    skip: frozenset[int] = frozenset()
    outcomes: list[Outcome] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    later: dict[tuple[int, str, int], list[Row]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    accepted: list[SentRow] = field(default_factory=list)
    accepted_us: int = 0
    again: list[Row] = field(default_factory=list)
    send_by_us: int = 0
    segments: int | Mapping[int, int] = 0
    noted: bool = False
    written: bool = False
    lost: bool = False

    def waits(self) -> bool:
        """Some of its messages have not gone out."""
        return not self.lost and (self.cursor < len(self.rows) or bool(self.again))

    def take(self, most: int) -> Sequence[Row]:
        """The next messages that may be sent, at most `most`; those settled before are left out."""
        if self.again:
            taken, self.again = self.again[:most], self.again[most:]
            return taken
        ends = min(self.budget, len(self.rows))
        if not self.skip:
            start, self.cursor = self.cursor, max(self.cursor, min(self.cursor + most, ends))
            return self.rows[start : self.cursor]
        rows: list[Row] = []
        while len(rows) < most and self.cursor < ends:
            if self.cursor not in self.skip:
                rows.append(self.rows[self.cursor])
            self.cursor += 1
        while self.cursor in self.skip:
            self.cursor += 1
        return rows

    def unsent(self) -> int:
        """Rows that still need a slot."""
        later = len(self.rows) - self.cursor - sum(1 for at in self.skip if at >= self.cursor)
        return later + len(self.again)

    def known(self) -> int:
        """Outcomes that wait to be written."""
        return len(self.outcomes) + len(self.accepted)

    def weight(self) -> int:
        """About how many bytes of content wait to be written with them."""
        content, letters = self.envelope.content, sum(o.letter is not None for o in self.outcomes)
        once = len(content.text or "") + len(content.html or "")
        return once * (len(self.later) + len(self.moves) + letters)

    def sent(self, rows: Sequence[Row], accepted: Sequence[Accepted], now_us: int) -> None:
        """The provider has taken these messages."""
        if not self.claimed.fresh:
            for row, verdict in zip(rows, accepted, strict=True):
                attempts, own = row.attempts + 1, verdict.provider_id
                self.end(row, Status.SENT, now_us, provider_id=own, attempts=attempts)
            return
        self.accepted += [
            (row.index, row.to, row.ref, verdict.provider_id)
            for row, verdict in zip(rows, accepted, strict=True)
        ]
        self.accepted_us = now_us
        self.left -= len(rows)

    def end(
        self,
        row: Row,
        status: Status,
        now_us: int,
        *,
        code: str | None = None,
        detail: str | None = None,
        provider_id: str | None = None,
        attempts: int | None = None,
    ) -> None:
        """The message gets its outcome here; dead and unknown ones leave a letter."""
        history = row.history if code is None else self._story(row, now_us, code)
        record = Record(
            now_us // 1000, self.lane, row.to, row.ref, provider_id, code, detail,
            attempts=row.attempts if attempts is None else attempts, history=history,
        )  # fmt: skip
        letter: bytes | None = None
        if status in (Status.DEAD, Status.UNKNOWN):
            letter = self._letter(row, status, record)
        if code is not None and status in (Status.DEAD, Status.SUPPRESSED):
            self.count(f"{status.word}:{metrics.CODES.of(code)}")
        value = encode_record(status, row.hop, record)
        self.outcomes.append(Outcome(row.index, row.hop, status, value, letter))
        self.left -= 1

    def put_back(
        self,
        row: Row,
        now_us: int,
        *,
        wait_us: int,
        code: str,
        attempts: int,
        age_ms: int,
        lane: str | None = None,
        detail: str | None = None,
        reclaims: int = 0,
    ) -> None:
        """The message is tried again after `wait_us`, here or in another lane. `reclaims` are those
        of this entry, unless the provider has answered."""
        history = self._story(row, now_us, code)
        lane, due_us = lane or self.lane, now_us + wait_us if wait_us else 0
        again = Row(row.index, row.to, row.values, row.ref, row.hop + 1, attempts, age_ms, history)
        record = Record(
            now_us // 1000, lane, row.to, row.ref, None, code, detail, due_us // 1000, attempts,
            history,
        )  # fmt: skip
        value = encode_record(Status.SCHEDULED, again.hop, record)
        self.outcomes.append(Outcome(row.index, again.hop, Status.SCHEDULED, value))
        self.later.setdefault((wait_us, lane, reclaims), []).append(again)
        self.count("retried" if attempts > row.attempts else "deferred")
        self.left -= 1

    def give_back(self, now_us: int, start: int | None = None) -> int:
        """Return rows from `start` on (default: all that are unsent), as one entry; the number."""
        start = self.cursor if start is None else max(start, self.cursor)
        rows = [self.rows[at] for at in range(start, len(self.rows)) if at not in self.skip]
        rows, self.again = self.again + rows, []
        if not rows:
            return 0
        again = [
            Row(r.index, r.to, r.values, r.ref, r.hop + 1, r.attempts, r.age_ms, r.history)
            for r in rows
        ]
        for row in again:
            record = Record(
                now_us // 1000, self.lane, row.to, row.ref, attempts=row.attempts,
                history=row.history,
            )  # fmt: skip
            value = encode_record(Status.QUEUED, row.hop, record)
            self.outcomes.append(Outcome(row.index, row.hop, Status.QUEUED, value))
        self._move(again, 0, self.lane, self.claimed.reclaims)
        self.rows = self.rows[:start]
        self.skip = frozenset(at for at in self.skip if at < start)
        self.budget = min(self.budget, start)
        self.left -= len(rows)
        return len(rows)

    def halve(self, reclaims: int) -> None:
        """Put both halves back as they came, each an entry of its own with so many `reclaims`."""
        middle, unclear = (len(self.rows) + 1) // 2, self.claimed.ambiguous or 0
        for rows, first in ((self.rows[:middle], 0), (self.rows[middle:], middle)):
            ambiguous = min(max(0, unclear - first), len(rows))
            self._move(rows, 0, self.lane, reclaims, ambiguous)
        self.rows, self.left = (), 0

    def settlement(self) -> Settlement:
        """What has become known since the last call; the entry then starts to collect anew."""
        for (wait_us, lane, reclaims), rows in self.later.items():
            name = f"{message_id(self.envelope.batch, rows[0].index)}.{rows[0].hop}"
            self._move(rows, wait_us, lane, reclaims, name="" if lane == self.lane else name)
        taken = Settlement(
            self.claimed.queue,
            self.claimed.id,
            self.claimed.batch,
            self.left <= 0,
            self.outcomes,
            self.moves,
            self.counters,
            self._sheets(),
            self._segments_sent() if self.segments else 0,
        )
        self.outcomes, self.moves, self.counters, self.accepted = [], [], {}, []
        self.later = {}
        self.noted = False
        return taken

    def _segments_sent(self) -> int:
        sent = [row[0] for row in self.accepted]
        sent += [o.index for o in self.outcomes if o.status is Status.SENT]
        if isinstance(self.segments, int):
            return self.segments * len(sent)
        return sum(self.segments[index] for index in sent)

    def _sheets(self) -> list[Sheet]:
        at_ms, lane, rows = self.accepted_us // 1000, self.lane, sorted(self.accepted, key=_INDEX)
        sheets, start = [], 0
        while start < len(rows):
            first = rows[start][0]
            ends = bisect_left(rows, first - first % STATUS_BLOCK + STATUS_BLOCK, start, key=_INDEX)
            sheets.append(
                Sheet(
                    first,
                    rows[ends - 1][0],
                    ends - start,
                    encode_sheet(at_ms, lane, rows[start:ends]),
                )
            )
            start = ends
        return sheets

    def _move(
        self,
        rows: Sequence[Row],
        wait_us: int,
        lane: str,
        reclaims: int,
        ambiguous: int | None = None,
        name: str = "",
    ) -> None:
        body = encode_body(self.envelope, rows)
        expires, cost, class_ = self.envelope.expires_us, self.claimed.cost, self.class_
        self.moves.append(
            Move(wait_us, lane, class_, len(rows), cost, expires, body, ambiguous, reclaims, name)
        )

    def _letter(self, row: Row, status: Status, record: Record) -> bytes:
        letter = Letter(
            self.lane, self.class_, status.word, record.code or "", record.detail or "",
            record.provider_id, record.history, self.envelope.expires_us,
            encode_body(self.envelope, [row]), self.claimed.cost,
        )  # fmt: skip
        return msgspec.msgpack.encode(letter)

    def _story(self, row: Row, now_us: int, code: str) -> tuple[Attempt, ...]:
        provider = self.lane.partition("/")[0]
        return (*row.history, Attempt(now_us // 1000, provider, code))[-HISTORY:]

    def count(self, name: str) -> None:
        """Count one message under a name, for the batch, or for the lane where it is `error:…`."""
        self.counters[name] = self.counters.get(name, 0) + 1


def requests(
    config: Config, provider: Provider, envelope: Envelope, lane: str
) -> Callable[[Sequence[Row]], HttpRequest]:
    """What turns rows of an entry into a request: all that they share is prepared here.

    Raises InvalidMessage when the content cannot be prepared.
    """
    render = Template.compile(envelope.content.text or "").bind(envelope.columns)
    choices = of_lane(sender_pool(config.senders, envelope.sender, provider.name), lane)
    batch = envelope.batch

    def outgoing(row: Row) -> Outgoing:
        sender = pick_sender(choices, row.to)
        return Outgoing(message_id(batch, row.index), row.to, sender, row.values, row.ref, render)

    try:
        if provider.batch > 1:
            compose_batch = cast(BatchProvider, provider).compose_batch(envelope)
            return lambda rows: compose_batch([outgoing(row) for row in rows])
        compose = provider.compose(envelope)
        return lambda rows: compose(outgoing(rows[0]))
    except InvalidMessage:
        raise
    except Exception as error:
        detail = f"{provider.name} cannot prepare the content: {error!r}"
        raise InvalidMessage("unsendable", detail) from error
