"""The scripts against a model that knows where each message is: workers that stall and wake after
others have taken over, cancelled batches, expired entries, calls made again after a lost reply.

`STORE_MACHINE_EXAMPLES` asks for more than the few runs of the suite.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from dispatcher.messages import Row, Status, encode_sheet
from dispatcher.settings import StoreConfig
from dispatcher.store.claims import SUSPECT, ClaimedEntry
from dispatcher.store.opening import open_store
from dispatcher.store.queue import Move, Settlement, Sheet, WorkerLost
from dispatcher.store.submissions import Submissions
from tests.store.cell import OWN, Cell, body_of, entries_of, outcome, rows_of

EXAMPLES = int(os.environ.get("STORE_MACHINE_EXAMPLES", "8"))
FAR_US = 4_000_000_000_000_000
LONG = 1e9
"""Seconds after which everything scheduled is due."""
ENDS = {"sent": Status.SENT, "dead": Status.DEAD, "unknown": Status.UNKNOWN}
KINDS = [*ENDS, "sheet", "again", "later", "part"]
WAITING = ("queue", "scheduled")


class StoreMachine(RuleBasedStateMachine):
    """`places` says where each message is. `held` is what the store says a worker holds, `hands`
    what the worker itself knows of: less after a lost reply, more after others have taken over."""

    def __init__(self, config: StoreConfig) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opened = open_store(config)
        self.cell = Cell(self.run(self.opened.__aenter__()))
        self.names = iter(f"w{number}" for number in range(1000))
        self.alive: list[str] = []
        self.stale: list[str] = []
        self.held: dict[str, dict[str, ClaimedEntry]] = {}
        self.hands: dict[str, dict[str, ClaimedEntry]] = {}
        self.places: dict[int, str] = {}
        self.hops: dict[int, int] = {}
        self.deaths: Counter[int] = Counter()
        self.parts: list[tuple[int, dict[str, Any]]] = []
        self.cancelled = False
        self.ripe: set[int] = set()

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    @initialize(rate=st.sampled_from([0, 500]))
    def begin(self, rate: int) -> None:
        self.run(self.cell.limit(OWN, rate))
        for _ in range(2):
            self.arrive()

    @rule()
    def arrive(self) -> None:
        if len(self.alive) < 4:
            name = next(self.names)
            self.run(self.cell.worker(name))
            self.alive.append(name)
            self.held[name], self.hands[name] = {}, {}

    @rule(
        count=st.integers(1, 12),
        carrier=st.sampled_from("ab"),
        class_=st.sampled_from(["urgent", "normal", "bulk"]),
        size=st.sampled_from([1, 4, 12]),
        scheduled=st.booleans(),
        expired=st.booleans(),
    )
    def enqueue(
        self, count: int, carrier: str, class_: str, size: int, scheduled: bool, expired: bool
    ) -> None:
        first = self.cell.accepted
        words = {
            "lane": f"p/sms/{carrier}",
            "class_": class_,
            "size": size,
            "due_us": FAR_US if scheduled else 0,
            "expires_us": 1 if expired else 0,
        }
        accepted = self.run(self.cell.enqueue(count, first=first, **words))
        assert (accepted.messages, accepted.repeated) == (count, False)
        self.parts.append((count, {"first": first, **words}))
        place = "scheduled" if scheduled else "queue"
        self.places |= dict.fromkeys(range(first, first + count), place)

    @precondition(lambda self: self.parts)
    @rule(pick=st.integers(0))
    def enqueue_again(self, pick: int) -> None:
        count, words = self.parts[pick % len(self.parts)]
        assert self.run(self.cell.enqueue(count, **words)).repeated

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0), room=st.integers(1, 30), lost=st.booleans())
    def claim(self, pick: int, room: int, lost: bool) -> None:
        name = self.alive[pick % len(self.alive)]
        claim = self.run(self.cell.claim(name, room))
        self.forward()
        for entry in entries_of(claim):
            assert self.open_rows(entry, "queue"), "an entry of which nothing is open"
            for row in self.open_rows(entry, "queue"):
                self.places[row.index] = f"held:{name}"
            self.held[name][entry.field] = entry
            if not lost:
                self.hands[name][entry.field] = entry
        self.drop_cancelled()

    def forward(self) -> None:
        """A claim puts what is due into its queue."""
        for index in self.ripe:
            if self.places[index] == "scheduled":
                self.places[index] = "queue"
        self.ripe = set()

    def scheduled(self) -> set[int]:
        """What waits for its time."""
        return {index for index, place in self.places.items() if place == "scheduled"}

    def drop_cancelled(self) -> None:
        """A claim may drop entries of a cancelled batch that nobody has read."""
        if self.cancelled:
            found = self.run(self.cell.places())
            for index, place in self.places.items():
                if place == "queue" and not found[index]:
                    self.places[index] = "dropped"

    def open_rows(self, entry: ClaimedEntry, place: str) -> list[Row]:
        """Messages of an entry without an outcome. Each has to be where the model has it."""
        ended = {status.word for status in Status} | {"dropped"}
        rows = [row for row in rows_of(entry) if row.hop == self.hops.get(row.index, 0)]
        rows = [row for row in rows if self.places[row.index] not in ended - {"scheduled"}]
        assert {self.places[row.index] for row in rows} <= {place}
        return rows

    @precondition(lambda self: any(self.hands.values()))
    @rule(pick=st.integers(0), kind=st.sampled_from(KINDS), again=st.booleans())
    def settle(self, pick: int, kind: str, again: bool) -> None:
        choices = [(name, field) for name, hand in self.hands.items() for field in hand]
        name, field = choices[pick % len(choices)]
        entry, owned = self.hands[name][field], field in self.held.get(name, {})
        if name in self.stale:
            with pytest.raises(WorkerLost):
                self.run(self.cell.settle(name, self.write(entry, rows_of(entry), kind)))
            self.hands[name].clear()
            return
        rows = self.open_rows(entry, f"held:{name}") if owned else rows_of(entry)
        found = self.write(entry, rows, kind)
        assert self.run(self.cell.settle(name, found)) == [owned]
        if again:
            number = self.cell._numbers[name]
            assert self.run(self.cell.settle(name, found, number=number)) == [owned]
        if owned:
            self.note(found)
        if found.done or not owned:
            del self.hands[name][field]
            self.held[name].pop(field, None)

    def write(self, entry: ClaimedEntry, rows: list[Row], kind: str) -> Settlement:
        """What a worker says of an entry: one outcome for its messages, or for the first one."""
        if entry.mark:
            status = Status.EXPIRED if entry.mark == "expired" else Status.CANCELLED
            return self.settlement(entry, [outcome(row, status) for row in rows])
        if kind == "sheet" and entry.fresh and len(rows) == len(rows_of(entry)):
            value = encode_sheet(1, "p/sms/a", [(row.index, row.to, None, None) for row in rows])
            sheet = Sheet(rows[0].index, rows[-1].index, len(rows), value)
            return self.settlement(entry, [])._replace(sheets=[sheet])
        if kind == "part":
            found = self.settlement(entry, [outcome(row) for row in rows[:1]])
            return found._replace(done=len(rows) <= 1)
        if kind in ("again", "later"):
            return self.put_back(entry, rows, FAR_US if kind == "later" else 0)
        status = ENDS.get(kind, Status.SENT)
        return self.settlement(entry, [outcome(row, status) for row in rows])

    def settlement(self, entry: ClaimedEntry, outcomes: list[Any]) -> Settlement:
        return Settlement(entry.queue, entry.id, entry.batch, True, outcomes, [], {})

    def put_back(self, entry: ClaimedEntry, rows: list[Row], wait_us: int) -> Settlement:
        lane, class_, _ = entry.queue.rsplit(":", 2)
        later = [Row(row.index, row.to, hop=row.hop + 1) for row in rows]
        status = Status.SCHEDULED if wait_us else Status.QUEUED
        body = body_of(entry.batch, later)
        move = Move(wait_us, lane, class_, len(later), entry.cost, entry.expires_us, body)
        found = self.settlement(entry, [outcome(row, status) for row in later])
        return found._replace(moves=[move], counters={"retried": len(later)})

    def note(self, found: Settlement) -> None:
        """The model after a settle."""
        words = {Status.QUEUED: "queue", Status.SCHEDULED: "scheduled"}
        for item in found.outcomes:
            self.places[item.index] = words.get(item.status, item.status.word)
            self.hops[item.index] = item.hop
            if item.status is Status.SCHEDULED:
                self.ripe.discard(item.index)
        for sheet in found.sheets:
            self.places |= dict.fromkeys(range(sheet.first, sheet.last + 1), "sent")

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0))
    def look_for_unseen(self, pick: int) -> None:
        """What only the store knows of goes back to the queue."""
        name = self.alive[pick % len(self.alive)]
        known = self.hands[name]
        self.run(self.cell.queue.reclaim_unseen(name, "p", 0, list(known)))
        unseen = [field for field in self.held[name] if field not in known]
        self.returned([self.held[name].pop(field) for field in unseen])

    def returned(self, entries: list[ClaimedEntry]) -> None:
        for entry in entries:
            for row in rows_of(entry):
                if self.places[row.index].startswith("held:"):
                    self.places[row.index] = "queue"

    @precondition(lambda self: len(self.alive) > 1)
    @rule(pick=st.integers(0), again=st.booleans())
    def take_over(self, pick: int, again: bool) -> None:
        """A worker stalls, and others take over. It does not know."""
        held = self.held[self.alive[pick % len(self.alive)]]
        self.deaths.update(row.index for entry in held.values() for row in rows_of(entry))
        name, beats = self.retire(pick)
        for _ in range(2 if again else 1):
            self.run(self.cell.queue.reclaim_dead(name, beats[name], 0.0))
        self.stale.append(name)

    @precondition(lambda self: len(self.alive) > 1)
    @rule(pick=st.integers(0))
    def leave(self, pick: int) -> None:
        name, _ = self.retire(pick)
        self.run(self.cell.queue.leave(name))
        self.hands[name].clear()

    def retire(self, pick: int) -> tuple[str, dict[str, str]]:
        """The name of one that is alive no longer, and all heartbeats."""
        name = self.alive.pop(pick % len(self.alive))
        self.returned(list(self.held.pop(name).values()))
        return name, self.run(self.cell.queue.heartbeat(self.alive[0])).beats

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0))
    def an_old_heartbeat_is_no_death(self, pick: int) -> None:
        name = self.alive[pick % len(self.alive)]
        assert self.run(self.cell.queue.reclaim_dead(name, "1", 0.0)) is None

    @precondition(lambda self: self.stale)
    @rule(pick=st.integers(0))
    def wake(self, pick: int) -> None:
        """A worker that was taken over from hears of it, whatever it asks."""
        name = self.stale[pick % len(self.stale)]
        with pytest.raises(WorkerLost):
            self.run(self.cell.queue.heartbeat(name))
        with pytest.raises(WorkerLost):
            self.run(self.cell.claim(name))

    @rule()
    def pass_time(self) -> None:
        self.run(self.cell.pass_time(LONG * 10))
        self.ripe = self.scheduled()

    @precondition(lambda self: self.parts and not self.cancelled)
    @rule(sure=st.integers(0, 3), again=st.booleans())
    def cancel(self, sure: int, again: bool) -> None:
        """Rarely, for it ends the batch."""
        if sure == 0:
            submissions = Submissions(self.cell.client, self.cell.keys)
            for _ in range(2 if again else 1):
                assert self.run(submissions.cancel(self.cell.batch, ["p"]))
            self.cancelled, self.ripe = True, self.scheduled()

    @invariant()
    def the_store_agrees(self) -> None:
        dropped = [index for index, place in self.places.items() if place == "dropped"]
        found = self.run(self.cell.check(dropped))
        for index, deaths in self.deaths.items():  # what several workers died with is tried alone
            if deaths >= SUSPECT and (found[index], self.places[index]) == ("scheduled", "queue"):
                found[index] = "queue"
        assert found == self.places | dict.fromkeys(dropped, "cancelled")

    @invariant()
    def workers_are_those_alive(self) -> None:
        assert self.run(self.cell.store.inspector.workers()) == len(self.alive)

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.run(self.opened.__aexit__(None, None, None))
            self.runner.close()

    def finish(self) -> None:
        """One worker can end all that is left."""
        while len(self.alive) > 1:
            self.take_over(1, again=False)
        for _ in range(400):
            if not any(p in WAITING or p.startswith("held:") for p in self.places.values()):
                break
            self.pass_time()
            self.look_for_unseen(0)
            self.claim(0, 1000, lost=False)
            while any(self.hands[self.alive[0]].values()):
                self.hands = {self.alive[0]: self.hands[self.alive[0]]}
                self.settle(0, "sent", again=False)
        self.the_store_agrees()
        assert not any(p in WAITING or p.startswith("held:") for p in self.places.values())
        assert self.run(self.cell.queues()) == []


def test_the_store_agrees_with_the_model(store_config: StoreConfig) -> None:
    numbers = iter(range(1_000_000))

    def machine() -> StoreMachine:
        prefix = f"{store_config.prefix}.{next(numbers)}"
        return StoreMachine(replace(store_config, prefix=prefix))

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
