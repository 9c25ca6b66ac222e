"""Turns of recipients beside a small model: each message waits for its own, comes back once, and a
recipient never gets more than the limit allows, however late others are."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.limits import Limit
from dispatcher.store.keys import Keys
from dispatcher.store.opening import Store
from dispatcher.store.screening import Screening, Waiting

EARLY = 0.03
"""Seconds by which a turn may be early."""
MEASURED = 0.025
"""Seconds between the clock of a script and what a test reads of it, on a busy machine."""
WITHIN = 0.2
PASS_TIME = """
for _, name in ipairs(redis.call('KEYS', ARGV[1] .. 'pair:*')) do
  local left, past = redis.call('PTTL', name), tonumber(ARGV[2])
  local times = string.gsub(redis.call('GET', name), '%d+', function(time)
    return string.format('%.0f', math.max(0, tonumber(time) - past))
  end)
  if left * 1000 <= past then redis.call('DEL', name)
  else redis.call('SET', name, times, 'PX', left - math.floor(past / 1000)) end
end
"""
"""ARGV: what all keys start with, us. A test has few keys, so it may look for them."""


class Recipients:
    """The turns of one example, on a clock that can be moved on."""

    def __init__(self, store: Store, *limits: tuple[float, int]) -> None:
        """`limits` are intervals in seconds, and bursts."""
        self._client = store.client
        self._keys = Keys(f"{store.keys.prefix}.{uuid4().hex[:8]}")
        self._screening = Screening(store.client, self._keys)
        self._limits = [
            Limit(f"pairs{number}", interval * 1e6, burst)
            for number, (interval, burst) in enumerate(limits)
        ]
        self._moved = 0.0
        self.admitted: dict[str, list[float]] = defaultdict(list)
        self.deferred = 0

    async def now(self) -> float:
        seconds, micros = await self._client.time()
        return float(seconds) + micros / 1e6 + self._moved

    async def reach(self, time: float) -> None:
        """Let time pass until then, if it has not yet."""
        past = time - await self.now()
        if past > 0:
            self._moved += past
            await self._client.eval(PASS_TIME, 0, f"{self._keys.prefix}:", int(past * 1e6))

    async def ask(self, recipients: Iterable[str], back: bool = False) -> list[float]:
        """Screen one message for each: when it may go (0 for now)."""
        names = list(recipients)
        waiting = [Waiting(name, back) for name in names]
        waits_us = await self._screening.screen(self._limits, waiting, int(WITHIN * 1e6))
        now = await self.now()
        for name, wait in zip(names, waits_us, strict=True):
            if wait:
                self.deferred += 1
            else:
                self.admitted[name].append(now)
        return [now + wait / 1e6 if wait else 0.0 for wait in waits_us]

    async def keys(self) -> list[bytes]:
        return [name async for name in self._client.scan_iter(f"{self._keys.name('pair')}:*")]


@dataclass
class Model:
    """One recipient: messages go in the order they came, up to `burst` of them at once."""

    step: float
    burst: int
    booked: float = 0.0

    def turn(self, now: float) -> float:
        """The turn of a new message."""
        base = max(self.booked, now - (self.burst - 1) * self.step)
        self.booked = base + self.step
        return max(base, now)


@dataclass
class Agenda:
    """New messages at their times, and those that were sent back until theirs."""

    events: list[tuple[float, int, str, bool]] = field(default_factory=list)
    count: int = 0

    def add(self, time: float, recipient: str, back: bool) -> None:
        self.count += 1
        heapq.heappush(self.events, (time, self.count, recipient, back))


def worst_burst(times: Sequence[float], step: float) -> float:
    level = worst = 0.0
    last = times[0]
    for time in times:
        level = max(0.0, level - (time - last) / step) + 1
        last, worst = time, max(worst, level)
    return worst


def assert_held(recipients: Recipients, step: float, burst: int) -> None:
    for times in recipients.admitted.values():
        assert worst_burst(times, step) <= burst + (EARLY + MEASURED) / step


ARRIVALS = st.lists(st.tuples(st.integers(0, 900), st.sampled_from("abc")), min_size=1, max_size=25)
EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@EXAMPLES
@given(arrivals=ARRIVALS, interval=st.sampled_from((0.3, 1.0, 6.0)), burst=st.integers(1, 3))
async def test_each_message_gets_the_turn_of_the_model_and_comes_back_once(
    store: Store, arrivals: list[tuple[int, str]], interval: float, burst: int
) -> None:
    recipients, step = Recipients(store, (interval, burst)), interval + WITHIN
    models = {name: Model(step, burst) for name in "abc"}
    agenda, at = Agenda(), await recipients.now()
    for wait_ms, name in arrivals:
        at += wait_ms / 1000
        agenda.add(at, name, False)
    while agenda.events:
        time, _, name, back = heapq.heappop(agenda.events)
        await recipients.reach(time)
        (due,) = await recipients.ask([name], back)
        if back:
            assert due == 0.0
            continue
        now = await recipients.now()
        expected = models[name].turn(now)
        assert (due or now) == pytest.approx(expected, abs=EARLY + MEASURED)
        if due:
            agenda.add(due, name, True)
    assert sum(map(len, recipients.admitted.values())) == len(arrivals)
    assert_held(recipients, step, burst)


@EXAMPLES
@given(
    arrivals=ARRIVALS,
    late_ms=st.lists(st.integers(0, 3000), min_size=1, max_size=20),
    burst=st.integers(1, 2),
)
async def test_late_messages_break_no_limit_and_all_go_in_the_end(
    store: Store, arrivals: list[tuple[int, str]], late_ms: list[int], burst: int
) -> None:
    recipients, step = Recipients(store, (0.8, burst)), 0.8 + WITHIN
    agenda, at = Agenda(), await recipients.now()
    for wait_ms, name in arrivals:
        at += wait_ms / 1000
        agenda.add(at, name, False)
    while agenda.events:
        time, number, name, back = heapq.heappop(agenda.events)
        await recipients.reach(time)
        (due,) = await recipients.ask([name], back)
        if due:
            agenda.add(due + late_ms[number % len(late_ms)] / 1000, name, True)
    assert sum(map(len, recipients.admitted.values())) == len(arrivals)
    assert recipients.deferred <= 3 * len(arrivals)
    assert_held(recipients, step, burst)


async def test_messages_of_one_call_get_turns_one_interval_apart(store: Store) -> None:
    recipients = Recipients(store, (6.0, 1))
    now = await recipients.now()
    first, other, *later = await recipients.ask(["a", "b", "a", "a", "a"])
    assert (first, other) == (0.0, 0.0)
    assert later == pytest.approx([now + 6.2, now + 12.4, now + 18.6], abs=MEASURED)


async def test_the_slowest_of_several_limits_decides(store: Store) -> None:
    recipients = Recipients(store, (1.0, 1), (10.0, 2))
    now = await recipients.now()
    dues = await recipients.ask(["a"] * 4)
    assert dues[0] == 0.0
    assert dues[1] == pytest.approx(now + 1.2, abs=MEASURED)
    await recipients.reach(dues[1])
    assert await recipients.ask(["a"], back=True) == [0.0]
    await recipients.reach(now + 5)
    assert (await recipients.ask(["a"]))[0] > now + 10


@pytest.mark.parametrize("late", [30, 15])
async def test_turns_that_were_missed_together_are_given_anew_without_a_storm(
    store: Store, late: int
) -> None:
    """As after an outage: the first `late` of 30 come back at once, each by itself."""
    recipients = Recipients(store, (1.0, 1))
    await recipients.ask(["a"])
    dues = await recipients.ask(["a"] * 30)
    agenda = Agenda()
    for due in dues:
        agenda.add(max(due, dues[late - 1]), "a", True)
    recipients.deferred = 0
    while agenda.events:
        time, _, name, _ = heapq.heappop(agenda.events)
        await recipients.reach(time)
        (due,) = await recipients.ask([name], back=True)
        if due:
            agenda.add(due, name, True)
    assert len(recipients.admitted["a"]) == 31
    assert recipients.deferred <= 2 * 30
    gaps = [after - before for before, after in pairwise(recipients.admitted["a"])]
    assert min(gaps) >= 1.2 - EARLY - MEASURED


async def test_new_messages_go_behind_those_that_wait(store: Store) -> None:
    recipients = Recipients(store, (1.0, 1))
    *_, last = await recipients.ask(["a"] * 4)
    await recipients.reach(last - 0.1)
    (due,) = await recipients.ask(["a"])
    assert due == pytest.approx(last + 1.2, abs=MEASURED)


async def test_what_is_remembered_vanishes_by_itself(store: Store) -> None:
    recipients = Recipients(store, (1.0, 2))
    *_, last = await recipients.ask(["a"] * 4)
    await recipients.reach(last + 1.0)
    assert len(await recipients.keys()) == 1
    await recipients.reach(last + 2.5)
    assert await recipients.keys() == []


async def test_a_clock_that_steps_back_holds_a_recipient_for_one_interval(store: Store) -> None:
    recipients = Recipients(store, (6.0, 1))
    await recipients.ask(["a"])
    (name,) = await recipients.keys()
    now = await recipients.now()
    await store.client.set(name, f"{int((now + 3600) * 1e6)} 0 0")
    (due,) = await recipients.ask(["a"])
    assert due == pytest.approx(now + 6.2, abs=EARLY + MEASURED)
