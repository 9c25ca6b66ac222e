"""The clock of a real server steps back: what lasts or waits for so long keeps what it has to go,
what had ended stays ended, and times that somebody named stay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from dispatcher.limits import CalendarQuota, Limit
from dispatcher.settings import StoreConfig
from dispatcher.store.claims import Claim, ClaimedEntry
from dispatcher.store.lease import Lease
from dispatcher.store.letters import Letters
from dispatcher.store.moving import Moving, NewPlace, Target
from dispatcher.store.opening import Store, open_store
from dispatcher.store.queue import Move, NewEntry
from dispatcher.store.screening import Screening, Waiting
from dispatcher.store.tidying import Tidying
from tests.campaign import PATIENCE, until
from tests.store.cell import LANE, OWN, Cell, action, entries_of, put_back, settlement
from tests.store.stepping import SteppingServer
from tests.store.test_letters import die, replay

HOUR = 3600
LONG = 600
"""Seconds that something lasts: more than a test takes, less than the clock steps."""
SLOW = 60
"""Seconds between two looks, at most."""
US = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteppingServer]:
    with SteppingServer(tmp_path_factory.mktemp("stepping")).running() as server:
        yield server


@pytest.fixture
async def store(server: SteppingServer) -> AsyncIterator[Store]:
    async with open_store(StoreConfig(url=server.url, prefix=f"t{uuid4().hex[:12]}")) as store:
        yield store


@pytest.fixture
def step_back(server: SteppingServer, cell: Cell) -> Callable[[int], Awaitable[None]]:
    """Let the clock go back by so many seconds, and a worker find out."""

    async def step(seconds: int) -> None:
        await server.step_back(cell.client, seconds)
        await cell.queue.heartbeat("w1")

    return step


async def pause_limit(cell: Cell, seconds: float) -> None:
    await cell.settle("w1", throttled=[(OWN, int(seconds * US))])


async def pause_lane(cell: Cell, seconds: float) -> None:
    await cell.enqueue(1)
    await cell.settle("w1", throttled=[(f"lane:{LANE}", int(seconds * US))])


async def suspend(cell: Cell, seconds: float) -> None:
    await cell.suspend("p/sms/*", seconds)


async def set_limit(cell: Cell, seconds: float) -> None:
    await cell.operations.set_limit(OWN, 100.0, seconds)


async def retry(cell: Cell, seconds: float) -> None:
    await cell.enqueue(1)
    (entry,) = await cell.claim_entries("w1")
    await cell.settle("w1", put_back(entry, wait_us=int(seconds * US)))


async def send_again(cell: Cell, seconds: float) -> None:
    await die(cell, 2)
    await replay(cell, Letters(cell.client, cell.keys), seconds * US)  # the first one at once


async def take_task(cell: Cell, seconds: float) -> None:
    await Tidying(cell.client, cell.keys).survey("w1", seconds, 1)


async def limit_paused(cell: Cell) -> float:
    return (await cell.store.inspector.limits([OWN]))[OWN].pause_us


async def lane_paused(cell: Cell) -> float:
    return (await cell.store.inspector.lanes([LANE]))[0].paused_us


async def suspended(cell: Cell) -> float:
    return (await cell.store.inspector.lanes([LANE]))[0].suspended_us


async def limit_set(cell: Cell) -> float:
    return (await cell.limit_state())["set_until"]


async def retried(cell: Cell) -> float:
    await cell.claim("w1")
    ((_, due),) = await cell.client.zrange(cell.keys.name("scheduled"), 0, -1, withscores=True)
    return float(due)


async def task_taken(cell: Cell) -> float:
    return float(await cell.client.hget(cell.keys.name("janitor"), "until"))


Begin = Callable[[Cell, float], Awaitable[None]]
Ends = Callable[[Cell], Awaitable[float]]
LASTING: dict[str, tuple[Begin, Ends]] = {
    "pause of a limit": (pause_limit, limit_paused),
    "pause of a lane": (pause_lane, lane_paused),
    "suspension": (suspend, suspended),
    "rate set for a while": (set_limit, limit_set),
    "retry": (retry, retried),
    "dead letter sent again": (send_again, retried),
    "task of the janitor": (take_task, task_taken),
}


async def to_go(cell: Cell, ends: Ends) -> float:
    return (await ends(cell) - await cell.store.inspector.now_us()) / US


@pytest.mark.parametrize("kind", LASTING)
async def test_it_lasts_no_longer(cell: Cell, step_back: Callable, kind: str) -> None:
    begin, ends = LASTING[kind]
    await begin(cell, LONG)
    await step_back(HOUR)
    assert LONG - SLOW < await to_go(cell, ends) < LONG + 5


@pytest.mark.parametrize("kind", LASTING)
async def test_two_steps_are_made_up_for(cell: Cell, step_back: Callable, kind: str) -> None:
    begin, ends = LASTING[kind]
    await begin(cell, LONG)
    await step_back(HOUR)
    await step_back(2 * HOUR)
    assert LONG - SLOW < await to_go(cell, ends) < LONG + 5


@pytest.mark.parametrize("kind", ["pause of a limit", "suspension", "rate set for a while"])
async def test_what_had_ended_has_ended(cell: Cell, step_back: Callable, kind: str) -> None:
    begin, ends = LASTING[kind]
    await begin(cell, 0.01)

    async def ended() -> bool:
        return await to_go(cell, ends) <= 0

    await until(ended)
    await cell.queue.heartbeat("w1")
    await step_back(HOUR)
    assert await to_go(cell, ends) < 1


async def test_what_begins_after_the_step_lasts_as_long_as_it_should(
    cell: Cell, server: SteppingServer
) -> None:
    await cell.queue.heartbeat("w1")
    await server.step_back(cell.client, HOUR)
    await pause_limit(cell, LONG)
    await suspend(cell, LONG)
    await cell.queue.heartbeat("w1")
    assert LONG - SLOW < await to_go(cell, limit_paused) < LONG + 5
    assert LONG - SLOW < await to_go(cell, suspended) < LONG + 5


async def test_a_suspension_for_ever_stays_one(cell: Cell, step_back: Callable) -> None:
    await cell.suspend(LANE)
    before = await suspended(cell)
    await step_back(HOUR)
    assert await suspended(cell) == before


async def test_a_provider_that_was_down_is_probed_in_time(cell: Cell, step_back: Callable) -> None:
    await cell.enqueue(1)
    await cell.settle("w1", breakers=[("p", 0, 1, 1)])
    before = (await cell.store.inspector.breaker("p")).until_us
    await step_back(HOUR)
    after = (await cell.store.inspector.breaker("p")).until_us
    assert (await cell.claim("w1")).breaker in ("open", "probe")
    assert before - (HOUR + SLOW) * US < after < before - (HOUR - 5) * US


async def test_messages_flow_on_at_once(cell: Cell, step_back: Callable) -> None:
    await cell.limit(OWN, 1000)
    await cell.enqueue(500, size=50)
    assert entries_of(await cell.claim("w1", 100))
    await step_back(HOUR)
    state, now_us = await cell.limit_state(), await cell.store.inspector.now_us()
    assert state["tat"] < now_us + 5 * US
    await served(cell)


async def test_a_slowed_limit_recovers(cell: Cell, step_back: Callable) -> None:
    await pause_limit(cell, 0.01)
    slowed = (await cell.store.inspector.limits([OWN]))[OWN].factor

    async def faster() -> bool:
        return (await cell.store.inspector.limits([OWN]))[OWN].factor > slowed + 0.01

    await step_back(HOUR)
    await until(faster)


async def test_a_limit_that_warms_up_is_at_its_first_day(cell: Cell, step_back: Callable) -> None:
    await cell.limit(OWN, 1000, ramp=(1e6, 1e5))
    await step_back(HOUR)
    await cell.enqueue(10)
    (grant, *_) = (await cell.claim("w1")).grants
    assert grant.count == 1


async def test_silence_of_a_worker_counts_on(cell: Cell, step_back: Callable) -> None:
    await step_back(HOUR)
    beat = await cell.queue.heartbeat("w1")
    assert beat.now_us - SLOW * US < float(beat.beats["w2"]) < beat.now_us + US


async def test_a_provider_that_nobody_serves_is_missed(cell: Cell, step_back: Callable) -> None:
    await cell.enqueue(1)
    await cell.claim("w1")
    await step_back(HOUR)
    served, now_us = await cell.store.inspector.providers(), await cell.store.inspector.now_us()
    assert now_us - SLOW * US < served["p"] < now_us + 5 * US


async def test_a_role_is_free_after_one_lease(store_cell: Cell, server: SteppingServer) -> None:
    cell, role = store_cell, "gauges"
    assert await Lease(cell.client, cell.keys, role).hold(0.5)
    await server.step_back(cell.client, HOUR)
    other = Lease(cell.client, cell.keys, role)
    await other.give_up()
    assert not await other.hold(0.5)
    await until(lambda: other.hold(0.5))


async def test_recipients_keep_their_turns(store_cell: Cell, server: SteppingServer) -> None:
    screening = Screening(store_cell.client, store_cell.keys)
    limits = [Limit("pairs", LONG * US)]

    async def ask(back: bool) -> int:
        (wait_us,) = await screening.screen(limits, [Waiting("a", back)], 0)
        return wait_us

    assert await ask(back=False) == 0
    first = await ask(back=False)
    await server.step_back(store_cell.client, HOUR)
    assert first - SLOW * US < await ask(back=True) < first + 5 * US
    assert first < await ask(back=False) < (2 * LONG + 5) * US


async def test_a_quota_ends_with_its_day(cell: Cell, step_back: Callable) -> None:
    midnight = await cell.store.inspector.now_us() + US // 5
    quota = CalendarQuota(10_000, "day", (midnight, midnight + 24 * HOUR * US))
    await cell.limit(OWN, quotas=(quota,))
    await cell.enqueue(300, size=1)

    async def next_day() -> bool:
        await served(cell)
        return (await cell.limit_state())["ends:day"] > midnight

    await until(next_day)
    await step_back(HOUR)
    assert OWN in (await served(cell)).skipped
    await cell.limit(OWN, quotas=(quota,))
    assert (await cell.limit_state())["ends:day"] == midnight
    assert OWN not in (await served(cell)).skipped


async def served(cell: Cell) -> Claim:
    """The first claim that gives a message."""
    async with asyncio.timeout(PATIENCE):
        while not (claim := await cell.claim("w1", 1)).grants:
            await asyncio.sleep(0.01)
    return claim


async def test_a_retry_that_is_moved_waits_on(cell: Cell, step_back: Callable) -> None:
    await retry(cell, LONG)
    moving, b = Moving(cell.client, cell.keys), "p/sms/b"
    async for (found,) in moving.scheduled(LANE):
        new = NewPlace(NewEntry(b, "normal", 1, 1, 0, 0, found.body), None, None)
        targets = [Target(b, (OWN,), "default", 1.0)]
        await moving.move(LANE, [(found, [new])], targets, action("move", LANE))
    await step_back(HOUR)
    assert LONG - SLOW < await to_go(cell, retried) < LONG + 5


async def test_a_replica_whose_clock_is_behind_takes_over(
    server: SteppingServer, store_cell: Cell, tmp_path: Path
) -> None:
    cell = store_cell
    await retry(cell, LONG)
    await pause_limit(cell, LONG)
    with SteppingServer(tmp_path).running() as second:
        async with open_store(StoreConfig(url=second.url, prefix=cell.keys.prefix)) as store:
            now, _ = await cell.client.time()
            await second.step_back(store.client, int(time.time() - now) + HOUR)
            await store.client.replicaof("127.0.0.1", server.port)
            await until(partial(has_copied, store))
            await store.client.replicaof("no", "one")
            after = Cell(store)
            assert LONG - SLOW < await to_go(after, retried) < LONG + 5
            assert LONG - SLOW < await to_go(after, limit_paused) < LONG + 5


async def has_copied(store: Store) -> bool:
    return bool(await store.client.exists(store.keys.name("workers")))


async def test_times_that_were_named_stay(cell: Cell, step_back: Callable) -> None:
    due_us = await cell.store.inspector.now_us() + LONG * US
    await cell.enqueue(1, due_us=due_us)
    await step_back(HOUR)
    assert await retried(cell) == due_us


async def put_aside(cell: Cell, entry: ClaimedEntry, *waits_s: float) -> None:
    """The messages of an entry, each in one of its own."""
    moves = [Move(int(seconds * US), LANE, "normal", 1, 1, 0, entry.body) for seconds in waits_s]
    await cell.settle("w1", settlement(entry, rows=())._replace(moves=moves))


async def test_many_retries_are_moved_some_at_a_time(
    store_cell: Cell, server: SteppingServer
) -> None:
    cell, name = store_cell, store_cell.keys.name("scheduled")
    named_us = await cell.store.inspector.now_us() + LONG * US
    await cell.enqueue(700, size=1, due_us=named_us)
    await cell.enqueue(801, size=200)
    *many, single = await cell.claim_entries("w1")
    waits = [LONG - 100 + n // 3 for n in range(200)]  # some are due together
    for entry in many:
        await put_aside(cell, entry, *waits)
    await server.step_back(cell.client, HOUR)
    assert (await cell.claim("w1")).next_us == 0
    await put_aside(cell, single, 2 * HOUR)
    await server.step_back(cell.client, HOUR)
    async with asyncio.timeout(PATIENCE):
        while (await cell.claim("w1")).next_us == 0:
            pass
    found = await cell.client.zrange(name, 0, -1, withscores=True)
    now_us = await cell.store.inspector.now_us()
    assert sum(due == named_us for _, due in found) == 700
    moved = sorted((due - now_us) / US for _, due in found if due != named_us)
    expected = sorted([*(waits * 4), 2 * HOUR])
    assert all(-SLOW < a - b < 5 for a, b in zip(moved, expected, strict=True))
