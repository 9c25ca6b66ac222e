"""Opens claimed entries: decode once, know what of an entry was settled before, and hold back
messages whose recipients have had one just now. What workers die with is divided until one message
is left."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import NoReturn

from dispatcher.engine.clock import StoreClock
from dispatcher.engine.entry import RECIPIENT_LIMIT, HeldEntry, requests
from dispatcher.errors import InvalidMessage, OutcomeUnknown, kept_words
from dispatcher.exchange import Provider
from dispatcher.limits import Limit
from dispatcher.messages import (
    Content,
    Envelope,
    Row,
    Status,
    UnknownFormat,
    decode_body,
    message_id,
)
from dispatcher.policy.segments import segments_of
from dispatcher.settings import SEGMENTED, Config
from dispatcher.store.claims import POISON, SUSPECT, ClaimedEntry
from dispatcher.store.inspector import Inspector
from dispatcher.store.queue import Move
from dispatcher.store.screening import Screening, Waiting

log = logging.getLogger(__name__)

FORMAT_WAIT = 5.0
"""Seconds an entry of an unknown format waits for a worker that knows it."""
SHUT_RECLAIMS = 8
"""Reclaims from which an entry cannot even be opened, else it would have been halved."""
SHUT_WAIT = 3600.0
"""Seconds until another worker tries to open one."""
SEND_SECONDS = 0.2
"""How long after its entry was opened a message with a slot goes out, at most."""
SPREAD_SECONDS = 0.02
"""Messages with the same turn come back spread over this time."""


class Intake:
    """`unclear` decides about a message that may have been sent by a worker that died; `pairs` are
    the limits of a lane that hold for each recipient by itself."""

    def __init__(
        self,
        config: Config,
        provider: Provider,
        inspector: Inspector,
        clock: StoreClock,
        unclear: Callable[[HeldEntry, Row, OutcomeUnknown], None],
        screening: Screening,
        pairs: Callable[[str], Sequence[Limit]],
    ) -> None:
        self._config = config
        self._provider = provider
        self._inspector = inspector
        self._clock = clock
        self._unclear = unclear
        self._screening = screening
        self._pairs = pairs
        wait = config.providers[provider.name].batch_wait if provider.batch > 1 else 0.0
        self._within_us = int((SEND_SECONDS + wait) * 1e6)

    async def open(self, claimed: ClaimedEntry, lane: str) -> HeldEntry:
        """Make a claimed entry ready to send. Expired and cancelled entries, entries nobody here
        can read and messages that may have been sent come back with their outcome."""
        class_ = claimed.queue.rsplit(":", 2)[1]
        if claimed.reclaims >= SHUT_RECLAIMS:
            return self._shut(claimed, lane, class_)
        try:
            return await self._open(claimed, lane, class_)
        except UnknownFormat as error:
            return self._defer(claimed, lane, class_, error)

    async def _open(self, claimed: ClaimedEntry, lane: str, class_: str) -> HeldEntry:
        """Raises UnknownFormat."""
        envelope, rows = decode_body(claimed.body)
        if claimed.reclaims >= POISON:
            return await self._divide(claimed, lane, class_, envelope, rows)
        fault = None
        try:
            request = requests(self._config, self._provider, envelope, lane)
        except InvalidMessage as error:
            request, fault = _unprepared, error
        budget = (claimed.ambiguous or 0) + claimed.slots
        entry = HeldEntry(
            claimed, lane, class_, envelope, rows, request, budget=budget, left=len(rows)
        )
        if fault is None and not claimed.mark:
            entry.segments = _segments(claimed.cost, envelope, rows)
        if claimed.ambiguous is not None:
            await self._recall(entry)
        if not claimed.mark and fault is None and (limits := self._pairs(lane)):
            await self._screen(entry, limits)
        if claimed.ambiguous is not None:
            self._resolve_ambiguous(entry)
        if claimed.mark:
            self._end_all(entry, Status.EXPIRED if claimed.mark == "expired" else Status.CANCELLED)
        elif fault is not None:
            self._end_all(entry, Status.DEAD, fault)
        while entry.cursor in entry.skip:
            entry.cursor += 1
        return entry

    async def _recall(self, entry: HeldEntry) -> None:
        """Leave out what was settled before the entry was put back."""
        known = await self._inspector.records(
            entry.envelope.batch, [row.index for row in entry.rows]
        )
        done = set()
        for at, row in enumerate(entry.rows):
            found = known.get(row.index)
            if found is None:
                continue
            status, hop, _ = found
            live = status in (Status.QUEUED, Status.SCHEDULED)
            if hop > row.hop or (hop == row.hop and not live):
                done.add(at)
        entry.skip = frozenset(done)
        entry.left -= len(done)

    async def _screen(self, entry: HeldEntry, limits: Sequence[Limit]) -> None:
        """Keep the messages whose recipients may have one now. The others are put back until their
        turn, and those without a slot at once: their turn is asked for when they get one."""
        first, budget = entry.claimed.ambiguous or 0, min(entry.budget, len(entry.rows))
        asking = [at for at in range(first, budget) if at not in entry.skip]
        turns: list[int] = []
        if asking:
            entry.send_by_us = self._clock.now_us() + int(SEND_SECONDS * 1e6)
            waiting = [_waiting(entry.rows[at]) for at in asking]
            turns = await self._screening.screen(limits, waiting, self._within_us)
        late = {at: wait_us for at, wait_us in zip(asking, turns, strict=True) if wait_us}
        for at, wait_us in late.items():
            self._hold_back(entry, entry.rows[at], wait_us)
        entry.give_back(self._clock.now_us(), budget)
        entry.skip = entry.skip.union(late)

    def _hold_back(self, entry: HeldEntry, row: Row, wait_us: int) -> None:
        spread_us = int(random.random() * SPREAD_SECONDS * 1e6)
        entry.put_back(
            row,
            self._clock.now_us(),
            wait_us=wait_us + spread_us,
            code=RECIPIENT_LIMIT,
            attempts=row.attempts,
            age_ms=row.age_ms,
            reclaims=entry.claimed.reclaims,
        )

    def _resolve_ambiguous(self, entry: HeldEntry) -> None:
        """Messages with a slot when their worker died may have been sent."""
        may_be_sent = min(entry.claimed.ambiguous or 0, len(entry.rows))
        unclear = [at for at in range(may_be_sent) if at not in entry.skip]
        error = OutcomeUnknown("worker_lost", "the worker that had it ended without an outcome")
        for at in unclear:
            self._unclear(entry, entry.rows[at], error)
        entry.skip |= frozenset(unclear)

    def _end_all(
        self, entry: HeldEntry, status: Status, error: InvalidMessage | None = None
    ) -> None:
        code = kept_words(error.code) if error else None
        detail = kept_words(error.detail) if error else None
        for at, row in enumerate(entry.rows):
            if at not in entry.skip:
                entry.end(row, status, self._clock.now_us(), code=code, detail=detail)
        entry.cursor = len(entry.rows)

    def _defer(
        self, claimed: ClaimedEntry, lane: str, class_: str, error: UnknownFormat
    ) -> HeldEntry:
        """Put an unreadable entry aside whole, for a worker of the version that wrote it."""
        log.error("%s: %s; it waits for a worker that knows it", lane, error)
        return self._put_aside(claimed, lane, class_, FORMAT_WAIT, claimed.reclaims)

    def _shut(self, claimed: ClaimedEntry, lane: str, class_: str) -> HeldEntry:
        """Put an entry aside whole that ends every worker that opens it, and look at nothing of it.
        Where that has passed by then, the next worker to try finds one reclaim less."""
        log.error(
            "%s: %d workers ended when they opened an entry of batch %s; it is tried again in %g s",
            lane, claimed.reclaims, claimed.batch, SHUT_WAIT,
        )  # fmt: skip
        return self._put_aside(claimed, lane, class_, SHUT_WAIT, SHUT_RECLAIMS - 1)

    async def _divide(
        self,
        claimed: ClaimedEntry,
        lane: str,
        class_: str,
        envelope: Envelope,
        rows: Sequence[Row],
    ) -> HeldEntry:
        """An entry that a worker died with though it held no other suspect: each half is one of its
        own, a single message is dead. Nothing else is done with it: it might end this worker."""
        entry = HeldEntry(
            claimed, lane, class_, envelope, rows, _unprepared, budget=0, left=len(rows)
        )
        if len(rows) > 1:
            log.warning("%s: halved an entry that %d workers died with", lane, claimed.reclaims)
            entry.halve(SUSPECT)
        else:
            await self._recall(entry)
            detail = f"{claimed.reclaims} workers ended while they had it; it may have been sent"
            log.error("%s: %s is dead: %s", lane, message_id(claimed.batch, rows[0].index), detail)
            self._end_all(entry, Status.DEAD, InvalidMessage("poison", detail))
        return entry

    def _put_aside(
        self, claimed: ClaimedEntry, lane: str, class_: str, seconds: float, reclaims: int
    ) -> HeldEntry:
        """The whole entry, as it came, at a later time."""
        nothing = Envelope(claimed.batch, "", "", class_, "", 0, claimed.expires_us, Content())
        entry = HeldEntry(claimed, lane, class_, nothing, (), _unprepared, budget=0, left=0)
        entry.moves.append(
            Move(
                int(seconds * 1e6),
                lane,
                class_,
                claimed.count,
                claimed.cost,
                claimed.expires_us,
                claimed.body,
                claimed.ambiguous,
                reclaims,
            )
        )
        return entry


def _segments(cost: int, envelope: Envelope, rows: Sequence[Row]) -> int | dict[int, int]:
    """As in HeldEntry. A cost of more than one was found from the segments when it was accepted."""
    if envelope.channel not in SEGMENTED:
        return 0
    if cost > 1:
        return cost
    return segments_of(envelope.content.text or "", envelope.columns, rows)


def _waiting(row: Row) -> Waiting:
    return Waiting(row.to, bool(row.history) and row.history[-1].code == RECIPIENT_LIMIT)


def _unprepared(rows: Sequence[Row]) -> NoReturn:
    raise InvalidMessage("unprepared", f"{len(rows)} messages of an entry that is not sent")
