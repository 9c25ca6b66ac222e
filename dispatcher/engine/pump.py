"""Claims entries of one provider and sends their messages at their slots.

One pump per provider and process, so that a slow provider holds up nobody. Claiming waits for the
store; sending never does: it runs in callbacks of the event loop, from slot to slot.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from dispatcher import failpoints, metrics
from dispatcher.engine.clock import Moment, StoreClock, monotonic
from dispatcher.engine.entry import HeldEntry
from dispatcher.engine.intake import Intake
from dispatcher.engine.lane import SLOT_SECONDS, LaneRun, Send, slot_runs
from dispatcher.engine.outage import Outage
from dispatcher.engine.sending import Sender
from dispatcher.errors import StoreUnavailable
from dispatcher.settings import ProviderConfig
from dispatcher.store.claims import Answered, Claim, ClaimedEntry, Grant, Wanted
from dispatcher.store.queue import Queue
from dispatcher.store.suspensions import covers

log = logging.getLogger(__name__)

GRANT_SECONDS = 0.1
TICK_SECONDS = 0.002
HELD_SECONDS = 5.0
"""Messages that got no slot for this long go back to the queue."""
PAUSED_SECONDS = 60.0
"""In a pause that is asked for they wait for its end, but no longer than this."""
IDLE_SECONDS = 1.0
GAP_SECONDS = 0.01
"""Least time between two claims that no room called for."""
CAPACITY_MOST = 20_000
"""Messages with a slot or in flight, at most."""
SETTLE_BACKLOG = 50_000
"""Outcomes not written yet above which nothing new is claimed."""


class Pump:
    """`may_send` says whether the lease still holds, `whole` whether a lane meets a limit in
    requests, `limits_of` which limits it meets; `limits_missing` writes limits back, `numbered`
    gets the number of changes. Every `compare_seconds` what the store says is held is compared
    with what is held here: a claim given up for lost may run late. `probe` messages tell whether
    a provider that failed is back."""

    def __init__(
        self,
        name: str,
        config: ProviderConfig,
        *,
        worker: str,
        queue: Queue,
        clock: StoreClock,
        intake: Intake,
        sender: Sender,
        may_send: Callable[[], bool],
        compare_seconds: float,
        whole: Callable[[str], bool],
        probe: int,
        limits_of: Callable[[str], Sequence[str]],
        limits_missing: Callable[[Iterable[str]], Awaitable[None]],
        numbered: Callable[[int], None],
        outage: Outage,
    ) -> None:
        self.name = name
        self.lanes: dict[tuple[str, int], LaneRun] = {}
        self.wake = asyncio.Event()
        self._config = config
        self._worker = worker
        self._queue = queue
        self._clock = clock
        self._intake = intake
        self._sender = sender
        self._may_send = may_send
        self._whole = whole
        self._probe = probe
        self._limits_of = limits_of
        self._limits_missing = limits_missing
        self._numbered = numbered
        self._outage = outage
        self._capacity = min(CAPACITY_MOST, config.concurrency * 2 * sender.batch)
        self._batch_wait = float(config.batch_wait)
        self._doubt = False
        self._compare_seconds = compare_seconds
        self._compare_at = monotonic() + compare_seconds
        self._stopping = False
        self._breaker = "closed"
        self._open: dict[str, HeldEntry] = {}
        self._claims = self._answered = 0
        self._next_at = 0.0
        self._paused_until = 0.0
        self._empties = 0
        self._changed: set[str] = set()
        self._pauses: dict[str, float] = {}
        self._claiming = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._loop = asyncio.get_running_loop()
        sender.freed = self._freed
        sender.hold = self._hold
        sender.pause = self._pause
        sender.untake = self._untake
        sender.divide = self._divide
        sender.may_send = may_send

    async def run(self) -> None:
        """Claim until cancelled; the store being away is a pause, not an end."""
        pause = 0.05
        while not self._stopping:
            if not await self._until_due():
                return
            try:
                await self._claim()
                if monotonic() >= self._compare_at:  # while there are slots to use
                    await self._compare()
                self._outage.answered(self.name)
                pause = 0.05
            except StoreUnavailable as error:
                self._claiming = False
                self._doubt = True
                self._outage.failed(self.name, error)
                await asyncio.sleep(pause * (0.5 + random.random()))
                pause = min(pause * 2, 2.0)

    def room(self) -> int:
        """Slots this pump could use now."""
        taken = sum(lane.slots_left() + lane.collected() for lane in self.lanes.values())
        return self._capacity - self._sender.messages - taken

    async def _until_due(self) -> bool:
        """Until something may be due and there is room for it; False when told to stop."""
        while not self._stopping:
            now = monotonic()
            ready = self.room() >= self._capacity // 4 and self._sender.settling() < SETTLE_BACKLOG
            next_at = max(self._next_at, self._paused_until)
            if ready and now >= next_at and self._may_send():
                return True
            self.wake.clear()
            wait = max(next_at - now, GAP_SECONDS) if ready else 0.25
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self.wake.wait()
        return False

    def stop(self) -> None:
        """Claim nothing more; `run` ends after the claim under way."""
        self._stopping = True
        self.wake.set()

    def abandon(self) -> None:
        """Forget everything held: it is somebody else's now, or settled."""
        for entry in self._open.values():
            entry.lost = True
        self._open.clear()
        self.lanes.clear()
        if self._timer is not None:
            self._timer.cancel()

    def control(self, what: str) -> None:
        """Something was changed: limits by name, `lane:<lanes>` (a pattern), or `*`. Slots granted
        before are dropped where it matters, and asked for again at once; what was collected for a
        request had its slots and goes out now."""
        names, now = set(what.split()), monotonic()
        self._changed |= names
        self._drop_changed()
        for lane in self.lanes.values():
            if self._may_send() and self._concerns(names, lane):
                self._flush(lane, now, 0.0)
        self.ring()

    def _drop_changed(self) -> None:
        now = monotonic()
        self._pauses = {name: until for name, until in self._pauses.items() if until > now}
        names = self._changed | self._pauses.keys()
        for lane in self.lanes.values():
            if self._concerns(names, lane):
                lane.drop_slots()
        if not self._claiming:
            self._changed = set()

    def ring(self) -> None:
        """Something may be due now."""
        self._next_at = 0.0
        self._empties = 0
        self.wake.set()

    async def _claim(self) -> None:
        if self._doubt:
            await self._compare()
        self._open = {
            field: entry for field, entry in self._open.items() if not (entry.written or entry.lost)
        }
        self.lanes = {name: lane for name, lane in self.lanes.items() if not lane.idle()}
        held = [
            Wanted(lane.name, lane.cost, lane.most(), lane.wants()) for lane in self.lanes.values()
        ]
        failpoints.passed("before_claim")
        self._claiming = True
        self._claims += 1
        lead, before = self._clock.lead(), monotonic()
        claim = await self._queue.claim(
            self.name,
            self._worker,
            max(0, self.room()),
            float(self._config.timeout) + 5,
            [item for item in held if item.most or item.fields],
            self._probe,
            lead,
            self._claims,
            self._known_there(),
        )
        self._answered, after = self._claims, monotonic()
        failpoints.passed("after_claim")
        metrics.CLAIMS.inc()
        self._numbered(claim.control)
        asked = self._clock.learn(claim.now_us, before, after)
        begin = Moment(asked.earliest + lead.back, asked.latest + lead.back)
        if claim.breaker != self._breaker:
            log.warning("%s: breaker is %s", self.name, claim.breaker)
            self._breaker = claim.breaker
        if claim.skipped:
            log.warning("%s: written to the store again: %s", self.name, ", ".join(claim.skipped))
            await self._limits_missing(claim.skipped)
        for grant in claim.grants:
            await self._accept(grant, begin, after)
        self._claiming = False
        if self._changed or self._pauses:  # while the claim was under way: it may be of before
            self._drop_changed()
        if monotonic() < self._paused_until:
            self._hold(0.0)
        self._return_stale(monotonic())
        self._pace(claim, asked.latest - lead.there)
        if claim.skipped:  # written by now
            self.ring()
        self._send_due()

    async def _compare(self) -> None:
        """Put back what the store has this worker hold and no reply has brought here."""
        moved = await self._queue.reclaim_unseen(
            self._worker, self.name, self._claims, list(self._open), self._known_there()
        )
        self._doubt = False
        self._compare_at = monotonic() + self._compare_seconds
        if moved:
            log.info("%s: %d messages of a lost claim put back", self.name, moved)

    def _known_there(self) -> Answered:
        return Answered(self._answered, self._sender.settled())

    def _pace(self, claim: Claim, now: float) -> None:
        """When to claim next. Whoever comes back empty leaves the field to others for longer."""
        if claim.grants:
            self._empties = 0
            wait = claim.next_us / 1e6
            if all(grant.paced for grant in claim.grants):
                wait = max(wait, GAP_SECONDS)
        else:
            self._empties = 1 if claim.awaited else self._empties + 1
            wait = max(claim.next_us / 1e6, GAP_SECONDS)
            wait += GRANT_SECONDS * (self._empties - 1)
            if self._empties > 1 and not claim.contended:
                wait += GRANT_SECONDS / 2  # off the beat of the worker that fills the lane
        self._next_at = now + min(wait, IDLE_SECONDS)

    async def _accept(self, grant: Grant, begin: Moment, now: float) -> None:
        lane = self._lane(grant.lane, grant.cost)
        for run in slot_runs(grant, begin, now):
            lane.grant(run, now)
        for claimed in grant.entries:
            entry = await self._take_in(claimed, grant.lane)
            if entry is not None:
                lane.entries[entry.class_].append(entry)
        lane.book(grant.booked)

    async def _take_in(self, claimed: ClaimedEntry, lane: str) -> HeldEntry | None:
        entry = await self._intake.open(claimed, lane)
        self._open[claimed.field] = entry
        if entry.known() or entry.moves or entry.left <= 0:
            self._sender.note(entry)
        return entry if entry.waits() else None

    def _return_stale(self, now: float) -> None:
        for name, lane in list(self.lanes.items()):
            if not lane.slots and now - lane.wanted_since > HELD_SECONDS:
                self.give_back(lane)
                if not any(lane.held()) and not lane.collected():
                    del self.lanes[name]

    def give_back(self, lane: LaneRun) -> int:
        """Return what a lane holds unsent; the number of messages."""
        if self._may_send():
            self._flush(lane, monotonic(), 0.0)
        lane.drop_slots()
        total = 0
        for entry in list(lane.held()):
            given = entry.give_back(self._clock.now_us())
            if given:
                self._sender.note(entry)
            total += given
        return total

    def give_back_all(self) -> int:
        """Return everything unsent (drain); the number of messages."""
        return sum(self.give_back(lane) for lane in self.lanes.values())

    def _freed(self) -> None:
        """A send has ended: there is room on the wire, perhaps also for a claim."""
        self._look_at(0.0)

    def _hold(self, seconds: float) -> None:
        """The provider asks for a pause: unused slots are dropped, and nothing is claimed before
        the store knows of the pause."""
        now = monotonic()
        self._paused_until = max(self._paused_until, now + min(seconds, IDLE_SECONDS))
        for lane in self.lanes.values():
            lane.drop_slots()
            lane.keep(now + min(seconds, PAUSED_SECONDS))

    def _pause(self, what: str, seconds: float) -> None:
        """Some limits or a lane must pause: their unused slots are dropped, and new ones not used
        before the store knows of the pause."""
        now, names = monotonic(), set(what.split())
        for name in names:
            self._pauses[name] = max(now + min(seconds, IDLE_SECONDS), self._pauses.get(name, 0.0))
        self._drop_changed()
        for lane in self.lanes.values():
            if self._concerns(names, lane):
                lane.keep(now + min(seconds, PAUSED_SECONDS))

    def _concerns(self, names: set[str], lane: LaneRun) -> bool:
        """Whether one of these names in an announcement is about a lane."""
        if "*" in names or not names.isdisjoint(self._limits_of(lane.name)):
            return True
        patterns = (name.removeprefix("lane:") for name in names if name.startswith("lane:"))
        return any(covers(pattern, lane.name) for pattern in patterns)

    def _untake(self, send: Send) -> None:
        """A connection came too late for these messages: they wait for slots of their own again."""
        self._lane(send.entry.lane, send.entry.claimed.cost).untake(send)

    def _divide(self, request: Sequence[Send]) -> bool:
        """Where requests are counted, smaller ones instead of a large one need slots as well."""
        entry = request[0].entry
        lane = self._lane(entry.lane, entry.claimed.cost)
        if lane.whole:
            lane.divide(request, monotonic())
        return lane.whole

    def _lane(self, name: str, cost: int) -> LaneRun:
        lane = self.lanes.get((name, cost))
        if lane is None:
            lane = LaneRun(name, self._sender.batch, cost=cost, whole=self._whole(name))
            self.lanes[name, cost] = lane
        return lane

    def _tick(self) -> None:
        self._timer = None
        self._send_due()
        if not self.wake.is_set() and self.room() >= self._capacity // 4:
            self.wake.set()

    def _send_due(self) -> None:
        """Send what has a slot now, and look again when the next slot comes."""
        now, soonest = monotonic(), None
        if not self._may_send():
            self._hold(0.0)
            return
        for lane in self.lanes.values():
            at = self._send_lane(lane, now)
            if at is not None and (soonest is None or at < soonest):
                soonest = at
        if soonest is not None:
            self._look_at(max(now + TICK_SECONDS, soonest))

    def _look_at(self, at: float) -> None:
        """Have `_tick` run at a time (local clock), or earlier if that was asked for before."""
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - monotonic()), self._tick)

    def _send_lane(self, lane: LaneRun, now: float) -> float | None:
        """Send one lane up to now; when it is to be looked at again. A lane without a rate that
        waits for room on the wire is looked at when a send ends."""
        while (at := lane.due(now)) is not None and at <= now:
            free = self._sender.free()
            if free <= 0:
                return now + TICK_SECONDS if lane.slots[0].slack is not None else None
            ripe = min(lane.ripe(now), self._sender.batch)
            if owed := lane.owed():
                lane.waste_slots(min(ripe, owed))
                continue
            send = lane.take(ripe, urgent_only=free <= self._sender.reserve)
            if send is None:
                if free <= self._sender.reserve:
                    return now + TICK_SECONDS if lane.slots[0].slack is not None else None
                lane.waste_slots(ripe)
            elif (send := self._sender.admit(send)) is not None:
                write_by = lane.write_by()
                lane.use_slots(len(send.rows))
                self._collect(lane, send, now, write_by)
        if self._sender.batch == 1:
            return at
        self._flush(lane, now, self._batch_wait)
        ends = lane.ready_at(self._batch_wait)
        return ends if at is None else at if ends is None else min(at, ends)

    def _collect(self, lane: LaneRun, send: Send, now: float, write_by: float | None) -> None:
        """Send, or add to the request under way where a request carries many messages."""
        if self._sender.batch == 1:
            self._sender.send([send], write_by)
            return
        lane.collect(send, now)
        self._flush(lane, now, self._batch_wait)

    def _flush(self, lane: LaneRun, now: float, wait: float) -> None:
        while (sends := lane.ready(now, wait)) is not None:
            self._sender.send(sends, now + SLOT_SECONDS if lane.paced else None)
