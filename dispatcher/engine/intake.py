"""Opens claimed entries: decode once, and know what of an entry was settled before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

from dispatcher.engine.clock import StoreClock
from dispatcher.engine.entry import HeldEntry, requests
from dispatcher.errors import InvalidMessage, OutcomeUnknown
from dispatcher.exchange import Provider
from dispatcher.messages import Content, Envelope, Row, Status, UnknownFormat, decode_body
from dispatcher.settings import Config
from dispatcher.store.inspector import Inspector
from dispatcher.store.queue import ClaimedEntry, Move

log = logging.getLogger(__name__)

FORMAT_WAIT = 5.0
"""Seconds an entry of an unknown format waits for a worker that knows it."""


class Intake:
    """`unclear` decides about a message that may have been sent by a worker that died."""

    def __init__(
        self,
        config: Config,
        provider: Provider,
        inspector: Inspector,
        clock: StoreClock,
        unclear: Callable[[HeldEntry, Row, OutcomeUnknown], None],
    ) -> None:
        self._config = config
        self._provider = provider
        self._inspector = inspector
        self._clock = clock
        self._unclear = unclear

    async def open(self, claimed: ClaimedEntry, lane: str) -> HeldEntry:
        """Make a claimed entry ready to send. Expired and cancelled entries, entries nobody here
        can read and messages that may have been sent come back with their outcome."""
        class_ = claimed.queue.rsplit(":", 2)[1]
        try:
            envelope, rows = decode_body(claimed.body)
        except UnknownFormat as error:
            return self._defer(claimed, lane, class_, error)
        fault = None
        try:
            request = requests(self._config, self._provider, envelope)
        except InvalidMessage as error:
            request, fault = _unprepared, error
        budget = (claimed.ambiguous or 0) + claimed.slots
        entry = HeldEntry(
            claimed, lane, class_, envelope, rows, request, budget=budget, left=len(rows)
        )
        if claimed.ambiguous is not None:
            await self._recall(entry)
            self._resolve_ambiguous(entry)
        if claimed.mark:
            self._end_all(entry, Status.EXPIRED if claimed.mark == "expired" else Status.CANCELLED)
        elif fault is not None:
            self._end_all(entry, Status.DEAD, fault)
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
        code, detail = (error.code, error.detail) if error else (None, None)
        for at, row in enumerate(entry.rows):
            if at not in entry.skip:
                entry.end(row, status, self._clock.now_us(), code=code, detail=detail)
        entry.cursor = len(entry.rows)

    def _defer(
        self, claimed: ClaimedEntry, lane: str, class_: str, error: UnknownFormat
    ) -> HeldEntry:
        """Put an unreadable entry aside whole, for a worker of the version that wrote it."""
        log.error("%s: %s; it waits for a worker that knows it", lane, error)
        due_us = self._clock.now_us() + int(FORMAT_WAIT * 1e6)
        nothing = Envelope(claimed.batch, "", "", class_, "", 0, claimed.expires_us, Content())
        entry = HeldEntry(claimed, lane, class_, nothing, (), _unprepared, budget=0, left=0)
        entry.moves.append(
            Move(
                due_us,
                lane,
                class_,
                claimed.count,
                claimed.cost,
                claimed.expires_us,
                claimed.body,
                claimed.ambiguous,
            )
        )
        return entry


def _unprepared(rows: Sequence[Row]) -> NoReturn:
    raise InvalidMessage("unprepared", f"{len(rows)} messages of an entry that is not sent")
