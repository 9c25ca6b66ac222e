"""Every message is in one place, whatever happens in whatever order.

A state machine runs the scripts with what a worker makes of an entry (`Intake`, `HeldEntry`) and
compares where the store has each message with a model. Replies get lost, workers die, time passes
and the clock steps back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from dispatcher.engine.clock import StoreClock
from dispatcher.engine.entry import HeldEntry
from dispatcher.engine.intake import Intake
from dispatcher.errors import OutcomeUnknown
from dispatcher.exchange import Accepted
from dispatcher.messages import Row, Status
from dispatcher.providers.webhook import Webhook
from dispatcher.settings import Config, ProviderConfig, StoreConfig
from dispatcher.store.claims import ClaimedEntry
from dispatcher.store.opening import open_store
from dispatcher.store.screening import Screening
from tests.store.cell import OWN, Cell, entries_of
from tests.store.test_clock_steps import step_back

LATER = 3_600_000_000
FINAL = {"sent": Status.SENT, "dead": Status.DEAD, "expired": Status.EXPIRED}
ACTIONS = [*FINAL, "retry", "again", "open"]


class Hand:
    """What one worker has in hand, and the messages it put on the wire."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: dict[str, HeldEntry] = {}
        self.doubt = False


class Machine(RuleBasedStateMachine):
    workers = Bundle("workers")

    def __init__(self, config: StoreConfig) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opened = open_store(config)
        self.cell = Cell(self.run(self.opened.__aenter__()))
        self.clock = StoreClock()
        provider = ProviderConfig(kind="webhook", settings={"url": "http://localhost/"})
        store = self.cell.store
        self.intake = Intake(
            Config(providers={"p": provider}),
            Webhook("p", provider),
            store.inspector,
            self.clock,
            self.resolve,
            Screening(store.client, store.keys),
            lambda lane: (),
        )
        self.names = iter(f"w{number}" for number in range(1000))
        self.final: dict[int, str] = {}
        self.sends: Counter[int] = Counter()
        self.unclear: Counter[int] = Counter()
        self.run(self.cell.limit(OWN))

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def resolve(self, entry: HeldEntry, row: Row, error: OutcomeUnknown) -> None:
        """A message that may have been sent is sent again."""
        self.unclear[row.index] += 1
        self.put_back(entry, row, LATER)

    def put_back(self, entry: HeldEntry, row: Row, wait_us: int) -> None:
        now_us = self.clock.now_us()
        entry.put_back(row, now_us, wait_us=wait_us, code="x", attempts=row.attempts + 1, age_ms=0)

    @initialize(target=workers)
    def start_two(self) -> Any:
        return multiple(self.start(), self.start())

    def start(self) -> Hand:
        hand = Hand(next(self.names))
        self.run(self.cell.worker(hand.name))
        return hand

    @rule(
        count=st.integers(1, 16),
        carrier=st.sampled_from("ab"),
        class_=st.sampled_from(["urgent", "normal", "bulk"]),
        tenant=st.sampled_from(["one", "two"]),
        size=st.sampled_from([1, 3, 10]),
        later=st.booleans(),
        lost=st.booleans(),
    )
    def enqueue(
        self, count: int, carrier: str, class_: str, tenant: str, size: int, later: bool, lost: bool
    ) -> None:
        due_us = self.clock.now_us() + LATER if later else 0
        first, lane = self.cell.accepted, f"p/sms/{carrier}"
        for _ in range(2 if lost else 1):
            self.run(
                self.cell.enqueue(
                    count, lane, class_=class_, tenant=tenant, size=size, due_us=due_us, first=first
                )
            )

    @rule(hand=workers, room=st.integers(1, 8), lost=st.booleans())
    def claim(self, hand: Hand, room: int, lost: bool) -> None:
        if hand.doubt:
            self.run(self.cell.queue.reclaim_unseen(hand.name, "p", 0, list(hand.entries)))
            hand.doubt = False
        asks = [self.ask(hand, entry) for entry in hand.entries.values()]
        wanted = [(lane, 0, [(field, more)]) for lane, field, more in asks if more > 0]
        claim = self.run(self.cell.claim(hand.name, room, list({w[0]: w for w in wanted}.values())))
        if lost:
            hand.doubt = True
            return
        for grant in claim.grants:
            for claimed in entries_of(claim._replace(grants=[grant])):
                self.take_in(hand, claimed, grant.lane)
            for field, slots in grant.booked:
                hand.entries[field].budget += slots

    def ask(self, hand: Hand, entry: HeldEntry) -> tuple[str, str, int]:
        more = len(entry.rows) - max(entry.budget, entry.cursor)
        return entry.lane, entry.claimed.field, more

    def take_in(self, hand: Hand, claimed: ClaimedEntry, lane: str) -> None:
        entry = self.run(self.intake.open(claimed, lane))
        hand.entries[claimed.field] = entry
        if entry.left <= 0 or entry.known():
            self.settle_entries(hand, [entry], lost=False)

    @rule(hand=workers, actions=st.lists(st.sampled_from(ACTIONS), max_size=15), lost=st.booleans())
    def settle(self, hand: Hand, actions: list[str], lost: bool) -> None:
        for entry in list(hand.entries.values()):
            for action in actions:
                if action != "open" and (rows := entry.take(1)):
                    self.send(entry, rows[0], action)
        self.settle_entries(hand, list(hand.entries.values()), lost=lost)

    def send(self, entry: HeldEntry, row: Row, action: str) -> None:
        """Note what becomes of a message that went out."""
        self.sends[row.index] += 1
        if action in FINAL:
            self.end(entry, row, FINAL[action])
            self.final[row.index] = action
        else:
            self.put_back(entry, row, LATER if action == "retry" else 0)
            self.unclear[row.index] += 1  # it will be sent once more, and rightly so

    def end(self, entry: HeldEntry, row: Row, status: Status) -> None:
        if status is Status.SENT:
            entry.sent([row], [Accepted()], self.clock.now_us())
        else:
            entry.end(row, status, self.clock.now_us())

    @rule(hand=workers, lost=st.booleans())
    def give_back(self, hand: Hand, lost: bool) -> None:
        for entry in hand.entries.values():
            entry.give_back(self.clock.now_us())
        self.settle_entries(hand, list(hand.entries.values()), lost=lost)

    def settle_entries(self, hand: Hand, entries: list[HeldEntry], *, lost: bool) -> None:
        known = [entry.settlement() for entry in entries]
        verdicts = self.run(self.cell.settle(hand.name, *known))
        assert all(verdicts)
        if lost:
            number = self.cell._numbers[hand.name]
            self.run(self.cell.settle(hand.name, *known, number=number))
        for entry, written in zip(entries, known, strict=True):
            if written.done:
                hand.entries.pop(entry.claimed.field, None)

    @rule(
        target=workers,
        hand=consumes(workers),
        room=st.integers(1, 8),
        actions=st.lists(st.sampled_from(ACTIONS), max_size=4),
        wire=st.integers(0, 6),
    )
    def die(self, hand: Hand, room: int, actions: list[str], wire: int) -> Hand:
        """A worker claims, settles some and ends without a word, with others on the wire."""
        self.claim(hand, room, False)
        self.settle(hand, actions, False)
        for entry in hand.entries.values():
            for _ in range(wire):
                for row in entry.take(1):
                    self.sends[row.index] += 1
        self.reclaim(hand)
        return self.start()

    def reclaim(self, hand: Hand) -> None:
        watcher = next(self.names)
        beats = self.run(self.cell.queue.heartbeat(watcher, first=True)).beats
        self.run(self.cell.queue.reclaim_dead(hand.name, beats[hand.name], 0.0))
        self.run(self.cell.queue.reclaim_dead(hand.name, beats[hand.name], 0.0))
        self.run(self.cell.queue.leave(watcher))

    @rule(target=workers, hand=consumes(workers), room=st.integers(1, 8))
    def leave(self, hand: Hand, room: int) -> Hand:
        """A worker ends and has sent nothing of what it was just given."""
        self.claim(hand, room, False)
        self.run(self.cell.queue.leave(hand.name))
        return self.start()

    @rule()
    def pass_time(self) -> None:
        self.run(self.cell.pass_time(2 * LATER / 1e6))

    @rule()
    def step_back(self) -> None:
        self.run(step_back(self.cell))

    @invariant()
    def each_in_one_place(self) -> None:
        places = self.run(self.cell.check())
        settled = {i: place for i, place in places.items() if place in FINAL}
        assert settled == self.final

    @invariant()
    def never_sent_again_without_a_reason(self) -> None:
        twice = {i: n for i, n in self.sends.items() if n > 1 + self.unclear[i]}
        assert not twice

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.run(self.opened.__aexit__(None, None, None))
            self.runner.close()

    def finish(self) -> None:
        """Whatever happened, a last worker can settle everything."""
        last = Hand(next(self.names))
        self.run(self.cell.worker(last.name))
        beats = self.run(self.cell.queue.heartbeat(last.name)).beats
        for name, beat in beats.items():
            if name != last.name:
                self.run(self.cell.queue.reclaim_dead(name, beat, 0.0))
        for _ in range(200):
            if len(self.final) == self.cell.accepted:
                break
            self.pass_time()
            self.claim(last, 1000, False)
            self.settle(last, ["sent"] * 20, False)
        assert self.final.keys() == set(range(self.cell.accepted))
        self.each_in_one_place()
        self.never_sent_again_without_a_reason()
        assert self.run(self.cell.queues()) == []


def test_every_message_is_in_one_place(store_config: StoreConfig) -> None:
    numbers = iter(range(1_000_000))
    run_state_machine_as_test(
        lambda: Machine(replace(store_config, prefix=f"{store_config.prefix}.{next(numbers)}")),
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
