"""A suspended lane sends nothing from 200 ms after the command on, on every worker, and goes on by
itself at its end; a replay keeps its rate beside live traffic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from dispatcher.engine.letters import Replay, Selection
from dispatcher.simulator import Simulator, Slow
from dispatcher.store.letters import Letters
from dispatcher.store.opening import Store, open_store
from dispatcher.store.operations import FOREVER, Action, Operations
from tests.campaign import Campaign, numbers, until, webhook

HALTED_US = 200_000
WORKERS = 3
LANES = """
[carriers.a]
prefixes = ["+49151"]
[carriers.b]
prefixes = ["+49171"]
"""
ACTION = Action("01", "ann", "suspend", "hook", reason="test")


def arrivals(simulator: Simulator, prefix: str) -> list[int]:
    """When messages to such numbers arrived, us of the monotonic clock."""
    entries = simulator.journal.entries()
    return [entry.arrived_ns // 1000 for entry in entries if entry.to.startswith(prefix)]


async def test_nothing_goes_on_any_worker_until_the_end(
    campaign: Callable[[str], Campaign], store: Store, simulator: Simulator, simulator_url: str
) -> None:
    limited = campaign(webhook(simulator_url, rate="1000/s") + LANES)
    batch = await limited.submit(numbers(1500), class_="bulk")
    other = await limited.submit(numbers(1500, "+49171"), class_="bulk")
    operations = Operations(store.client, store.keys)
    async with AsyncExitStack() as stack:
        for _ in range(WORKERS):
            mine = await stack.enter_async_context(open_store(limited.config.store))
            member = Campaign(limited.config, mine, simulator)
            await stack.enter_async_context(member.work())
        await until(lambda: arrived(simulator, "+49151", 200))
        await operations.suspend("hook/sms/a*", 1.0, ACTION)
        halted_us = time.monotonic_ns() // 1000 + HALTED_US
        ends_us = halted_us - HALTED_US + 1_000_000
        await until(lambda: arrived(simulator, "+49151", 1500))
        quiet = [at for at in arrivals(simulator, "+49151") if halted_us < at < ends_us - 100_000]
        assert quiet == []
        went_on = [at for at in arrivals(simulator, "+49171") if halted_us < at < ends_us]
        assert len(went_on) > 200
        for name, count in ((batch, 1500), (other, 1500)):
            assert await limited.finished(name) == {"sent": count}
    limited.assert_each_arrived_once((batch, 1500), (other, 1500))


async def arrived(simulator: Simulator, prefix: str, at_least: int) -> bool:
    return len(arrivals(simulator, prefix)) >= at_least


async def test_a_lane_without_a_rate_stops_too_and_holds_nothing(
    campaign: Callable[[str], Campaign],
    store: Store,
    simulator: Simulator,
    simulator_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dispatcher.engine.pump.HELD_SECONDS", 1.0)
    free = campaign(webhook(simulator_url, concurrency=8))
    simulator.journal.clear()
    operations = Operations(store.client, store.keys)
    async with free.work():
        batch = await free.submit(numbers(3000), class_="bulk")
        await until(lambda: arrived(simulator, "+49", 100))
        await operations.suspend("hook", FOREVER, ACTION)
        halted_us = time.monotonic_ns() // 1000 + HALTED_US

        async def returned() -> bool:
            name = store.keys.name("held", "*")
            held = [key async for key in store.client.scan_iter(name, 1000)]
            fields = [await store.client.hkeys(key) for key in held]
            return not [field for keys in fields for field in keys if not field.startswith(b"#")]

        await until(returned)
        await asyncio.sleep(0.3)
        seen = len(arrivals(simulator, "+49"))
        assert seen < 3000
        assert [at for at in arrivals(simulator, "+49") if at > halted_us] == []
        late = await free.submit(numbers(10, "+4917"), class_="urgent")
        await asyncio.sleep(0.3)
        assert len(arrivals(simulator, "+49")) == seen
        await operations.resume("hook", ACTION)
        assert await free.finished(batch) == {"sent": 3000}
        assert await free.finished(late) == {"sent": 10}
    free.assert_each_arrived_once((batch, 3000), (late, 10))


async def test_slots_given_before_are_not_used(
    campaign: Callable[[str], Campaign], store: Store, simulator: Simulator, simulator_url: str
) -> None:
    """The worker has slots for more messages than it may have in flight."""
    slow = campaign(webhook(simulator_url, concurrency=8))
    simulator.set_faults([Slow(seconds=0.5)])
    operations = Operations(store.client, store.keys)
    batch = await slow.submit(numbers(60))
    async with slow.work():
        await until(lambda: sent_to(simulator, 8))
        await operations.suspend("hook/*", FOREVER, ACTION)
        halted_us = time.monotonic_ns() // 1000 + HALTED_US
        await asyncio.sleep(1.5)
        simulator.set_faults([])
        await operations.resume("hook", ACTION)
        resumed_us = time.monotonic_ns() // 1000
        assert await slow.finished(batch) == {"sent": 60}
    times = arrivals(simulator, "+49")
    assert [at for at in times if halted_us < at < resumed_us - 100_000] == []
    slow.assert_each_arrived_once((batch, 60))


async def sent_to(simulator: Simulator, at_least: int) -> bool:
    return simulator.journal.counts.requests >= at_least


async def test_a_replay_keeps_its_rate_beside_live_traffic(
    campaign: Callable[[str], Campaign], store: Store, simulator: Simulator, simulator_url: str
) -> None:
    broken = campaign(webhook(f"{simulator_url}/nowhere") + LANES)
    failed = await broken.submit(numbers(30))
    async with broken.work():
        assert await broken.finished(failed) == {"dead": 30}
    working = campaign(webhook(simulator_url, rate="500/s") + LANES)
    async with working.work():
        live = await working.submit(numbers(1500, "+49171"), class_="bulk")
        letters, now_us = Letters(store.client, store.keys), await store.inspector.now_us()
        replay = Replay(letters, now_us, 1e6 / 20, 3600)
        done = await replay.run(Selection(code="404"), ACTION, dry_run=False)
        assert done.messages == 30
        assert await working.finished(failed) == {"sent": 30}
        assert await working.finished(live) == {"sent": 1500}
    times = arrivals(simulator, "+49151")
    for at, first in enumerate(times):
        within = [one for one in times[at:] if one < first + 500_000]
        assert len(within) <= 10 + 1 + 20 * 0.2  # 20/s, and what a claim may be late
    beside = [at for at in arrivals(simulator, "+49171") if times[0] < at < times[-1]]
    assert len(beside) > 100
    working.assert_each_arrived_once((failed, 30), (live, 1500))
