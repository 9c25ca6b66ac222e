"""What is shown of the whole store: the right figures, by one process at a time, and cheap however
many lanes there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from dispatcher import metrics
from dispatcher.engine.gauges import Gauges, readings
from dispatcher.engine.overlook import Overlook, fair_level, overlook
from dispatcher.limits import Limit
from dispatcher.messages import new_ulid
from dispatcher.metrics import StoreGauges
from dispatcher.store.opening import Store
from dispatcher.store.queue import NewEntry, NewLane
from dispatcher.store.survey import PAGE, Survey
from tests.campaign import until

LEASE = 3.0


async def fill(store: Store, *entries: tuple[str, str, int], limits: tuple[str, ...] = ()) -> None:
    """Messages for lanes of the provider that the lane names: (lane, class, messages)."""
    batch = new_ulid(int(time.time() * 1000))
    await store.queue.enqueue(
        batch, 0, "", tenant="t", channel="sms", options="", max_queued=0,
        lanes=[
            NewLane(lane, (f"provider:{lane.partition('/')[0]}", *limits))
            for lane in {lane for lane, _, _ in entries}
        ],
        entries=[NewEntry(lane, class_, n, 1, 0, 0, b"") for lane, class_, n in entries],
    )  # fmt: skip


async def rate(store: Store, name: str, per_second: float, **more: object) -> None:
    interval = 1e6 / per_second if per_second else 0.0
    await store.queue.write_limits([Limit(name, interval, **more)])  # type: ignore[arg-type]


async def look(store: Store, *served: str) -> tuple[Overlook, dict[str, metrics.Series]]:
    found = await overlook(Survey(store.client, store.keys), served)
    return found, {
        name.removeprefix("dispatcher_"): series
        for name, series in (await readings(found, served)).items()
    }


async def test_what_waits_and_until_when(store: Store) -> None:
    await rate(store, "provider:p", 10)
    await fill(
        store, ("p/sms/de", "normal", 40), ("p/sms/de", "bulk", 60), ("p/mms/de", "bulk", 20)
    )
    found, shown = await look(store, "p")
    assert shown["queue_depth"] == {("p", "de", "normal"): 40, ("p", "de", "bulk"): 80}
    assert 0 <= shown["queue_oldest_seconds"]["p", "de", "bulk"] < 60
    assert found.lanes["p/sms/de"].rate == found.lanes["p/mms/de"].rate == 5
    assert shown["drain_seconds"]["p", "de", "normal"] == pytest.approx(8, abs=0.5)
    assert shown["drain_seconds"]["p", "de", "bulk"] == pytest.approx(20, abs=0.5)
    assert shown["drainable_messages"] == {(): 120}
    assert shown["unfinished_messages"] == {(): 120}
    assert shown["limit_rate"]["provider:p",] == pytest.approx(10)
    assert shown["breaker_state"] == {("p",): 0}


async def test_the_oldest_entry_is_that_of_any_tenant_and_of_what_came_back(store: Store) -> None:
    await rate(store, "provider:p", 0)
    await fill(store, ("p/sms/de", "bulk", 1), ("p/sms/de", "normal", 1))
    lane, fields = "p/sms/de", {"n": 1, "c": 1, "batch": "b", "expires": 0, "body": ""}
    old = int(time.time() * 1000) - 90_000
    await store.client.xadd(store.keys.name("queue", f"{lane}:bulk:~"), fields, id=f"{old}-0")
    _, shown = await look(store, "p")
    assert shown["queue_oldest_seconds"]["p", "de", "bulk"] == pytest.approx(90, abs=10)
    assert shown["queue_oldest_seconds"]["p", "de", "normal"] < 30


async def test_only_what_may_leave_within_a_minute_is_drainable(store: Store) -> None:
    await rate(store, "provider:p", 0)
    await rate(store, "provider:q", 1)
    await fill(store, ("p/sms/de", "bulk", 500), ("q/sms/de", "bulk", 500))
    _, shown = await look(store, "p", "q")
    assert shown["drainable_messages"][()] == pytest.approx(560, abs=1)
    future = int((time.time() + 3600) * 1e6)
    await store.client.hset(store.keys.name("suspended"), "p/sms/de", f"1 {future} why")
    await store.client.hset(
        store.keys.name("breaker", "q"), mapping={"state": "open", "until": future}
    )
    _, shown = await look(store, "p", "q")
    assert shown["drainable_messages"] == {(): 0}
    assert shown["lanes_suspended"] == {("p",): 1, ("q",): 0}
    assert shown["breaker_state"] == {("p",): 0, ("q",): 2}


async def test_messages_of_a_provider_nobody_serves(store: Store) -> None:
    for name in ("p", "gone"):
        await rate(store, f"provider:{name}", 0)
    await fill(store, ("p/sms/de", "bulk", 3), ("gone/sms/de", "bulk", 4))
    _, shown = await look(store, "p")
    assert shown["orphaned_messages"] == {(): 4}
    assert shown["queue_depth"]["gone", "de", "bulk"] == 4


async def test_a_limit_per_value_is_one_series(store: Store) -> None:
    for name, per_second in (("numbers/+1", 1), ("numbers/+2", 3), ("provider:p", 0)):
        await rate(store, name, per_second)
    full = int((time.time() + 60) * 1e6)
    pause = {"tat": full, "pause": full}
    await store.client.hset(store.keys.name("limit", "numbers/+2"), mapping=pause)
    _, shown = await look(store, "p")
    assert shown["limit_rate"] == {("numbers",): pytest.approx(4)}
    assert shown["limit_used_ratio"] == {("numbers",): 1}
    assert shown["limit_paused_seconds"]["numbers",] == pytest.approx(60, abs=10)
    assert shown["limit_paused_seconds"]["provider:p",] == 0


def test_what_some_leave_of_a_limit_the_others_share() -> None:
    assert fair_level(10, [1, 100, 100]) == pytest.approx(4.5)
    assert fair_level(10, [100, 100]) == pytest.approx(5)
    assert fair_level(10, [1, 2]) == float("inf")


async def test_many_lanes_cost_few_calls(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await rate(store, "provider:p", 0)
    lanes = 5 * PAGE
    await fill(store, *((f"p/sms/c{at}", "bulk", 1) for at in range(lanes)))
    calls = 0
    send = Redis.execute_command

    async def count(self: Redis, *arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        return await send(self, *arguments, **options)

    monkeypatch.setattr(Redis, "execute_command", count)
    found, _ = await look(store, "p")
    assert len(found.lanes) == lanes
    assert calls <= 4 * lanes / PAGE


class Process(NamedTuple):
    """One of several: its gauges, what a scraper sees of it, and what runs them."""

    registry: CollectorRegistry
    task: asyncio.Task[None]

    def depth(self) -> float | None:
        labels = {"provider": "p", "carrier": "de", "class": "bulk"}
        return self.registry.get_sample_value("dispatcher_queue_depth", labels)


Start = Callable[[], Process]


@asynccontextmanager
async def processes(store: Store) -> AsyncIterator[Start]:
    """Start gauges with a registry of their own, as in a process of their own."""
    tasks: list[asyncio.Task[None]] = []

    def start() -> Process:
        registry = CollectorRegistry()
        own = Gauges(store, ["p"], refresh=0.05, lease=LEASE, shown=StoreGauges(registry))
        tasks.append(asyncio.create_task(own.run()))
        return Process(registry, tasks[-1])

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def shown_by_one(*processes: Process) -> Process:
    """The one of these that shows the gauges, once there is one and no other."""

    async def one() -> bool:
        return sum(process.depth() is not None for process in processes) == 1

    await until(one)
    return next(process for process in processes if process.depth() is not None)


@pytest.fixture
async def waiting(store: Store) -> Store:
    await rate(store, "provider:p", 0)
    await fill(store, ("p/sms/de", "bulk", 7))
    return store


async def test_one_process_of_three_shows_them(waiting: Store) -> None:
    async with processes(waiting) as start:
        three = [start() for _ in range(3)]
        holder = await shown_by_one(*three)
        await asyncio.sleep(0.2)  # several turns of each
        assert sorted(process.depth() is None for process in three) == [False, True, True]
        holder.task.cancel()
        await asyncio.wait([holder.task])
        assert holder.depth() is None
        others = [process for process in three if process is not holder]
        assert (await shown_by_one(*others)).depth() == 7


async def test_a_holder_that_is_killed_is_followed_after_its_lease(waiting: Store) -> None:
    lease = waiting.keys.name("lease", "gauges")
    await waiting.client.set(lease, "killed", px=300)
    async with processes(waiting) as start:
        process = start()
        assert (await shown_by_one(process)).depth() == 7


async def test_a_holder_that_lost_its_lease_shows_nothing(waiting: Store) -> None:
    async with processes(waiting) as start:
        process = start()
        await shown_by_one(process)
        await waiting.client.set(waiting.keys.name("lease", "gauges"), "another")

        async def gone() -> bool:
            return process.depth() is None

        await until(gone)


def test_nothing_is_shown_after_the_lease() -> None:
    registry = CollectorRegistry()
    shown = StoreGauges(registry)
    shown.show({"dispatcher_workers": {(): 2.0}}, time.monotonic() + 60)
    assert registry.get_sample_value("dispatcher_workers") == 2
    shown.show({"dispatcher_workers": {(): 2.0}}, time.monotonic() - 1)
    assert registry.get_sample_value("dispatcher_workers") is None


async def test_what_has_gone_is_told_as_none(waiting: Store) -> None:
    async with processes(waiting) as start:
        process = start()
        await shown_by_one(process)
        await waiting.client.delete(waiting.keys.name("lanes", "p"))

        async def none() -> bool:
            return process.depth() == 0

        await until(none)


async def test_it_ends_whenever_it_is_cancelled(waiting: Store) -> None:
    for delay in range(40):
        task = asyncio.create_task(
            Gauges(waiting, ["p"], shown=StoreGauges(CollectorRegistry())).run()
        )
        await asyncio.sleep(delay * 0.0003)
        task.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait([task])
