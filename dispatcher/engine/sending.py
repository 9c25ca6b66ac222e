"""Sends messages and turns answers into outcomes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from dispatcher import failpoints, metrics
from dispatcher.engine.clock import StoreClock, monotonic
from dispatcher.engine.entry import RECIPIENT_LIMIT, HeldEntry
from dispatcher.engine.given import Verdict, checked_request, checked_verdicts
from dispatcher.engine.lane import Send, messages
from dispatcher.engine.meters import count_error
from dispatcher.engine.settler import Settler
from dispatcher.errors import (
    OutcomeUnknown,
    Permanent,
    Scope,
    SendError,
    Throttled,
    Transient,
    Unreadable,
    Unsent,
)
from dispatcher.exchange import (
    Accepted,
    BatchProvider,
    Delivery,
    HttpAnswer,
    Provider,
    Result,
    Transport,
)
from dispatcher.messages import Lane, Row, Status
from dispatcher.policy.decide import THROTTLED_WAIT, Rule, Standing, decide
from dispatcher.policy.recipients import Allow
from dispatcher.policy.routing import Limits, pick_sender, sender_pool
from dispatcher.settings import Config

log = logging.getLogger(__name__)

MISSED_MOST = 3
"""Requests in a row that found no connection in time before one may take as long as it needs."""
MISSED_SECONDS = 0.1
"""How long nothing more is claimed after one of them."""
DOWN_SECONDS = 0.5
"""How long nothing goes to a provider that is down before the store has opened its breaker."""

_ENDS = {
    "dead": Status.DEAD,
    "suppressed": Status.SUPPRESSED,
    "expired": Status.EXPIRED,
    "unknown": Status.UNKNOWN,
}


class Sender:
    """The way of messages through one provider, from the slot to the outcome.

    `freed` is called when a request has ended, `untake` with messages that need another slot,
    `divide` with those of a request that was too large: whether their lane sees to it,
    `hold` (seconds) when nothing may be sent for a while, `pause` (limits or a lane, named as in
    announcements; seconds) when this concerns some lanes only. `may_send` says whether the
    messages are still this worker's to send.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        provider: Provider,
        transport: Transport,
        settler: Settler,
        clock: StoreClock,
        allow: Allow,
        limits: Limits,
    ) -> None:
        self.name = name
        self.batch = provider.batch
        self.inflight = 0
        self.messages = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._concurrency = config.providers[name].concurrency
        self.reserve = self._concurrency // 10
        self.freed: Callable[[], None] = lambda: None
        self.hold: Callable[[float], None] = lambda _: None
        self.pause: Callable[[str, float], None] = lambda what, seconds: None
        self.untake: Callable[[Send], None] = lambda _: None
        self.divide: Callable[[Sequence[Send]], bool] = lambda _: False
        self.may_send: Callable[[], bool] = lambda: True
        self._missed = 0
        self._patient = False
        self._provider = provider
        self._transport = transport
        self._settler = settler
        self._clock = clock
        self._allow = allow
        self._limits = limits
        self._pools = config.senders
        self._served = config.providers
        self._on_unknown = config.providers[name].on_unknown
        retry = config.retry
        self._send_seconds = metrics.SEND_SECONDS.of(name)
        metrics.INFLIGHT.labels(name).set_function(lambda: self.inflight)
        self._rule = Rule(retry.max_attempts, retry.base, retry.max, retry.max_age)

    def free(self) -> int:
        """Requests that may still go out; the last `reserve` of them are for urgent messages."""
        return self._concurrency - self.inflight

    def settled(self) -> int:
        """The number of the last settle that was answered."""
        return self._settler.answered_number

    def settling(self) -> int:
        """Outcomes not written yet."""
        return self._settler.backlog()

    def note(self, entry: HeldEntry) -> None:
        """Have what is known of an entry written."""
        self._settler.note(entry)

    def admit(self, send: Send) -> Send | None:
        """What of these messages may still go out. The others got their outcome here, and their
        slots may serve others."""
        entry, rows = send.entry, send.rows
        expires = entry.envelope.expires_us
        if expires and (now_us := self._clock.now_us()) >= expires:
            for row in rows:
                entry.end(row, Status.EXPIRED, now_us)
            self._settler.note(entry)
            return None
        if entry.send_by_us and (now_us := self._clock.now_us()) >= entry.send_by_us:
            for row in rows:
                self._miss_turn(entry, row, now_us)
            return None
        if not self._allow.everybody:
            rows = [row for row in rows if self._permit(entry, row)]
            return Send(entry, rows) if rows else None
        return send

    def send(self, sends: Sequence[Send], write_by: float | None = None) -> None:
        """Put messages that share an envelope on the wire, in one request; not after `write_by`
        (local clock) nor after the lease."""
        if not self.may_send():
            for send in sends:
                self.untake(send)
            return
        first = sends[0]
        rows = first.rows if len(sends) == 1 else [row for send in sends for row in send.rows]
        try:
            request = checked_request(first.entry.request(rows))
        except Exception as error:
            # A message that cannot be put into a request must not stop the others of its lane.
            self._uncomposable(sends, error, write_by)
            return
        self.inflight += 1
        self.messages += len(rows)
        self._quiet.clear()
        request.may_write = self.may_send
        if self._missed < MISSED_MOST or self._patient:
            request.write_by = write_by
        else:  # where connections always take longer than a slot lasts, one goes out nevertheless
            self._patient = True
        failpoints.passed("before_send")
        self._transport.send(request, partial(self._done, sends, len(rows), monotonic()))
        failpoints.passed("after_send")

    async def quiet(self) -> None:
        """Wait until nothing is in flight; request time-outs bound it."""
        while self.inflight:  # the end of one request may send others in its place
            await self._quiet.wait()

    def unclear(self, entry: HeldEntry, row: Row, error: OutcomeUnknown) -> None:
        """A message that another worker may have sent."""
        self._apply(entry, row, error, row.age_ms, entry.claimed.reclaims)

    def _miss_turn(self, entry: HeldEntry, row: Row, now_us: int) -> None:
        """Too late for the turn its recipient was given: it asks for another one."""
        entry.put_back(
            row,
            now_us,
            wait_us=0,
            code=RECIPIENT_LIMIT,
            attempts=row.attempts,
            age_ms=row.age_ms,
            reclaims=entry.claimed.reclaims,
        )
        self._settler.note(entry)

    def _permit(self, entry: HeldEntry, row: Row) -> bool:
        if self._allow.permits(row.to):
            return True
        now_us = self._clock.now_us()
        entry.end(row, Status.SUPPRESSED, now_us, code="not_allowed", detail="[safety] allow")
        self._settler.note(entry)
        return False

    def _uncomposable(
        self, sends: Sequence[Send], error: Exception, write_by: float | None
    ) -> None:
        if messages(sends) > 1:
            self._halve(sends, write_by)
            return
        entry, row = sends[0].entry, sends[0].rows[0]
        log.error("%s: message %d cannot be composed: %r", entry.lane, row.index, error)
        self._apply(entry, row, Permanent("unsendable", str(error)), row.age_ms)

    def _halve(self, sends: Sequence[Send], write_by: float | None = None) -> None:
        """Two requests instead of one that is too large or holds a message nobody can compose."""
        single = [Send(send.entry, (row,)) for send in sends for row in send.rows]
        middle = (len(single) + 1) // 2
        for part in (single[:middle], single[middle:]):
            if part:
                self.send(part, write_by)

    def _done(self, sends: Sequence[Send], count: int, started: float, result: Result) -> None:
        failpoints.passed("after_answer")
        self.inflight -= 1
        self.messages -= count
        if not self.inflight:
            self._quiet.set()
        if result.delivery is Delivery.NOT_SENT and result.reason == "deadline":
            return self._late(sends)
        self._missed, self._patient = 0, False
        seconds = monotonic() - started
        verdicts = self._verdicts(result, count)
        self._learn(verdicts[0], seconds)
        if count > 1 and all(isinstance(verdict, Unsent) for verdict in verdicts):
            admitted = (self.admit(send) for send in sends if not send.entry.lost)
            if (again := [*filter(None, admitted)]) and not self.divide(again):
                self._halve(again)
        else:
            now_us, at = self._clock.now_us(), 0
            for send in sends:
                ends = at + len(send.rows)
                if not send.entry.lost:
                    self._conclude(send, verdicts[at:ends], now_us, int(seconds * 1000))
                at = ends
        self.freed()

    def _late(self, sends: Sequence[Send]) -> None:
        """No connection was open while these messages had their slot."""
        self._missed += 1
        for send in sends:
            if not send.entry.lost:
                self.untake(send)
        self.hold(MISSED_SECONDS)
        self.freed()

    def _conclude(self, send: Send, verdicts: Sequence[Verdict], now_us: int, age_ms: int) -> None:
        """Messages of one entry get what the provider says of them."""
        entry, rows = send.entry, send.rows
        accepted = [verdict for verdict in verdicts if isinstance(verdict, Accepted)]
        if len(accepted) < len(rows):
            answered = list(zip(rows, verdicts, strict=True))
            refused = [(row, v) for row, v in answered if not isinstance(v, Accepted)]
            self._refuse(entry, refused, age_ms)
            rows = [row for row, verdict in answered if isinstance(verdict, Accepted)]
        if rows:
            entry.sent(rows, accepted, now_us)
            waited = max(0, now_us - entry.envelope.accepted_us)
            metrics.QUEUE_SECONDS.of(entry.class_).observe(waited / 1e6, len(rows))
            self._settler.note(entry)

    def _refuse(
        self, entry: HeldEntry, refused: Sequence[tuple[Row, SendError]], age_ms: int
    ) -> None:
        """What is throttled with others waits for their next slot, the rest is decided upon."""
        waiting: dict[str, list[Row]] = {}
        draw = self._draw()
        for row, error in refused:
            code = count_error(entry.lane, error.code)
            entry.count(f"error:{code}")
            what = self._throttled(entry.lane, error) if isinstance(error, Throttled) else ""
            if what and not self._expires_before(entry, error.retry_after or THROTTLED_WAIT):
                waiting.setdefault(what, []).append(row)
            else:
                # One time for all of them: they go back together, their content once.
                self._apply(entry, row, error, row.age_ms + age_ms, 0, draw)
        for rows in waiting.values():
            self._wait(entry, rows)

    def _expires_before(self, entry: HeldEntry, wait: float) -> bool:
        """Whether the messages of an entry expire within so many seconds."""
        expires = entry.envelope.expires_us
        return 0 < expires <= self._clock.now_us() + wait * 1e6

    def _throttled(self, lane: str, error: Throttled) -> str:
        """Pause what an answer asks to go slower: its limits, or the lane; "" for nothing."""
        what = self._slowed(lane, error.scope)
        wait = error.retry_after or THROTTLED_WAIT
        for name in what:
            self._settler.throttled(name, wait)
        if error.scope == "account":
            self.hold(wait)
        elif what:
            self.pause(" ".join(what), wait)
        return " ".join(what)

    def _slowed(self, lane: str, scope: Scope) -> Sequence[str]:
        if scope == "account":
            return (f"provider:{self.name}",)
        if scope == "recipient":
            return ()
        _, _, rest = lane.partition("/sender=")
        sender = rest.partition("/")[0]
        limits = [name for name in self._limits.of(lane) if sender and name.endswith(f"/{sender}")]
        return limits or (f"lane:{lane}",)

    def _wait(self, entry: HeldEntry, rows: Sequence[Row]) -> None:
        """Have messages wait here for a slot after the pause: putting each of them aside in the
        store would cost more than sending it. They are counted when their entry is written next."""
        entry.counters["deferred"] = entry.counters.get("deferred", 0) + len(rows)
        self.untake(Send(entry, rows))

    def _verdicts(self, result: Result, count: int) -> Sequence[Verdict]:
        if result.delivery is Delivery.NOT_SENT:
            return [Transient(result.reason, "no connection to the provider")] * count
        if result.delivery is Delivery.UNKNOWN or result.answer is None:
            reason = "the request was written and no answer came"
            return [OutcomeUnknown(result.reason, reason)] * count
        try:
            return self._read(result.answer, count)
        except Exception as error:
            # What the provider said cannot be told any more, and nothing else may wait for it.
            log.error("%s: an answer cannot be read: %r", self.name, error)
            return [Unreadable("unreadable", f"the answer cannot be read: {error!r}")] * count

    def _read(self, answer: HttpAnswer, count: int) -> Sequence[Verdict]:
        """Raises whatever the provider's code raises."""
        if self.batch > 1:
            read_batch = cast(BatchProvider, self._provider).read_batch
            return checked_verdicts(read_batch(answer, count), count)
        return checked_verdicts([self._provider.read(answer)], 1)

    def _learn(self, verdict: Verdict, seconds: float) -> None:
        """What an answer says about the provider rather than about the message."""
        self._send_seconds.observe(seconds)
        failed = isinstance(verdict, SendError) and verdict.trips_breaker
        down = failed and isinstance(verdict, SendError) and verdict.failover
        if down:
            self.hold(DOWN_SECONDS)
        self._settler.answered(self.name, failed=failed, down=down)

    def _apply(
        self,
        entry: HeldEntry,
        row: Row,
        error: SendError,
        age_ms: int,
        reclaims: int = 0,
        draw: tuple[int, float] | None = None,
    ) -> None:
        now_us, chance = draw or self._draw()
        others, expires = self._others(entry), entry.envelope.expires_us
        resend = self._resend(entry)
        standing = Standing(row.attempts, age_ms / 1000, expires, resend, bool(others))
        decision = decide(error, standing, self._rule, now_us, lambda: chance)
        if decision.kind in _ENDS:
            entry.end(
                row, _ENDS[decision.kind], now_us, code=decision.code or None,
                detail=decision.detail or None, attempts=decision.attempts,
            )  # fmt: skip
        else:
            lane = entry.lane
            if decision.kind == "failover":
                lane = self._lane_at(others[0], entry, row)
            wait_us = int(decision.wait * 1e6)
            entry.put_back(
                row,
                now_us,
                wait_us=wait_us,
                code=decision.code,
                detail=decision.detail,
                attempts=decision.attempts,
                age_ms=age_ms + (wait_us // 1000 if decision.kind == "retry" else 0),
                lane=lane,
                reclaims=reclaims,
            )
        self._settler.note(entry)

    def _draw(self) -> tuple[int, float]:
        """When it is, and the luck of whoever must wait from now on."""
        return self._clock.now_us(), random.random()

    def _lane_at(self, provider: str, entry: HeldEntry, row: Row) -> str:
        """The lane of a message that goes to another provider."""
        _, channel, carrier = Lane.parse(entry.lane)
        sender = pick_sender(sender_pool(self._pools, entry.envelope.sender, provider), row.to)
        return self._limits.lane(provider, channel, carrier, sender, entry.envelope.tenant)

    def _others(self, entry: HeldEntry) -> Sequence[str]:
        """The providers after this one in the failover order of the entry, of those there are."""
        order = entry.envelope.providers
        after = order[order.index(self.name) + 1 :] if self.name in order else ()
        return [name for name in after if name in self._served]

    def _resend(self, entry: HeldEntry) -> bool:
        rule = entry.envelope.on_unknown or self._on_unknown
        return rule == "resend" if rule else entry.class_ != "bulk"
