"""After a run nothing is left of it, once what is kept for a while has had its time."""

from __future__ import annotations

from collections.abc import Callable

from dispatcher.engine.janitor import Janitor
from dispatcher.engine.runtime import write_limits
from dispatcher.policy.routing import Limits
from dispatcher.simulator.faults import Refuse, ResetAfter
from dispatcher.store.opening import Store
from dispatcher.store.tidying import Tidying
from tests.campaign import Campaign, numbers, until, webhook
from tests.faults.workers import registered
from tests.leftovers import footprint, leftovers

Start = Callable[[str], Campaign]
QUICK = """
[retry]
base = "1ms"
max = "5ms"
max_attempts = 3
[retention]
status = "1s"
dead = "1s"
"""
COUNTERS = 1024
"""Bytes that the counters of a cell may take."""


def janitor_of(run: Campaign, worker: str, unused: float) -> Janitor:
    store = run.store
    tidying = Tidying(store.client, store.keys)
    return Janitor(tidying, store.queue, worker, run.config.retention, unused)


async def lose_an_entry(store: Store) -> None:
    """A worker takes an entry; neither of the two is heard of again."""
    await store.queue.heartbeat("lost", first=True, lease=600.0)
    assert (await store.queue.claim("hook", "lost", 10, 10, [])).grants
    await store.client.zrem(store.keys.name("workers"), "lost")
    await store.client.delete(store.keys.name("held", "lost"))


async def test_nothing_is_left_of_a_run(campaign: Start, simulator_url: str) -> None:
    run = campaign(webhook(simulator_url, on_unknown="resend", rate="2000/s") + QUICK)
    client, keys = run.store.client, run.store.keys
    await write_limits(run.store, Limits(run.config, {"hook": 1}), ["hook"])
    before = await footprint(client, keys)
    run.simulator.set_faults(
        [Refuse(503, every=5), ResetAfter(every=11), Refuse(400, to="+4915100000007")]
    )
    batches = [await run.submit(numbers(400)), await run.submit(numbers(300), class_="bulk")]
    await lose_an_entry(run.store)
    found = await leftovers(client, keys)
    assert any("1 held" in one for one in found)
    assert any("consumer lost" in one for one in found)
    assert await footprint(client, keys) > before + 10 * COUNTERS
    async with run.work() as working:
        await registered(run.store, 1)
        # Its own janitor may have begun.
        (name,) = await client.zrange(keys.name("workers"), 0, -1)
        assert await janitor_of(run, name.decode(), 30 * 86_400).round()
        for batch in batches:
            counts = await run.finished(batch)
            assert counts["sent"] > 250
            assert counts["dead"] >= 1
        letters = await run.letters()
        assert letters

        async def settled() -> bool:
            return await leftovers(client, keys) == []

        await until(settled)
        assert not working.done()

    async def forgotten() -> bool:
        assert await janitor_of(run, name.decode(), 0.0).round()
        return await leftovers(client, keys, frozenset()) == []

    await until(forgotten)
    assert await footprint(client, keys) <= before + COUNTERS
