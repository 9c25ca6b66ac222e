"""What waits in a lane goes to another provider: nothing is lost or doubled, wherever it is
interrupted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from dispatcher.engine.ingest import Ingest
from dispatcher.engine.lane_states import lane_states, lanes_of
from dispatcher.engine.moving import Mover, MoveReport
from dispatcher.engine.runtime import create_providers
from dispatcher.errors import StoreUnavailable, UsageError
from dispatcher.messages import Content, decode_body
from dispatcher.policy.routing import Limits
from dispatcher.settings import Config
from dispatcher.store.moving import Moved, Moving
from dispatcher.store.opening import Store
from dispatcher.store.operations import Action
from tests.campaign import Campaign, numbers, twilio, webhook

OLD = '[providers.old]\nkind = "webhook"\nurl = "http://127.0.0.1:9/x"\nbatch = 3\n'
FIRST = '[[routes]]\nproviders = ["old"]\n'
MOVE = Action("01", "ann", "move", "old", "to hook")


async def submit(campaign: Callable[[str], Campaign], count: int, **words: object) -> str:
    """A batch that waits for the old provider."""
    return await campaign(OLD + FIRST).submit(numbers(count), **words)  # type: ignore[arg-type]


async def move(store: Store, config: Config, to: str = "hook", moving: Moving | None = None,
               pattern: str = "old") -> MoveReport:  # fmt: skip
    ingest = Ingest(config, create_providers(config))
    mover = Mover(ingest, moving or Moving(store.client, store.keys), to, MOVE)
    return await mover.move(pattern, await lanes_of(store.inspector, pattern))


async def test_all_of_it_is_sent_by_the_other_provider(
    campaign: Callable[[str], Campaign], store: Store, simulator_url: str
) -> None:
    batches = [
        (await submit(campaign, 1200, class_="bulk"), 1200),
        (await submit(campaign, 3, class_="urgent", tenant="acme"), 3),
        (await submit(campaign, 40, send_at_us=await store.inspector.now_us() + 1_500_000), 40),
    ]
    after = campaign(webhook(simulator_url))
    report = await move(store, after.config)
    assert (report.moved.total(), report.left, report.held.total()) == (1243, {}, 0)
    assert await store.inspector.lane_names(["old"]) == []
    async with after.work():
        for batch, count in batches:
            assert await after.finished(batch) == {"sent": count}
    after.assert_each_arrived_once(*batches)
    (kept,) = await store.inspector.actions()
    assert (kept.what, kept.detail, kept.affected) == ("move", "to hook", 1243)
    assert await after.is_empty()


class Breaking(Moving):
    """Loses its store after some calls; the last one is carried out and its reply is lost."""

    left = 3

    async def move(self, *args: object, **more: object) -> Moved:
        done = await super().move(*args, **more)  # type: ignore[arg-type]
        self.left -= 1
        if not self.left:
            raise StoreUnavailable("lost")
        return done


async def test_an_interrupted_move_is_carried_on(
    campaign: Callable[[str], Campaign], store: Store, simulator_url: str
) -> None:
    batch = await submit(campaign, 30_000, class_="bulk")
    after = campaign(webhook(simulator_url))
    with pytest.raises(StoreUnavailable):
        await move(store, after.config, moving=Breaking(store.client, store.keys))
    states = (await lane_states(store.inspector, after.config.providers)).lanes
    waiting = {state["provider"]: state["waiting"] for state in states}
    assert waiting["old"] > 0 and waiting["hook"] > 0
    assert sum(waiting.values()) == 30_000
    report = await move(store, after.config)
    assert report.moved.total() == waiting["old"]
    assert (await move(store, after.config)).moved.total() == 0
    rows = await indexes(store)
    assert rows == Counter(range(30_000))
    assert await after.counts(batch) == {"queued": 30_000}
    assert (await after.view(batch)).lanes == ("hook/sms/de",)


async def indexes(store: Store) -> Counter[int]:
    """How often each message waits."""
    found: Counter[int] = Counter()
    async for name in store.client.scan_iter(store.keys.name("queue", "*"), 1000):
        for _, fields in await store.client.xrange(name):
            found.update(row.index for row in decode_body(fields[b"body"])[1])
    return found


async def test_lanes_are_those_of_the_new_limits(
    campaign: Callable[[str], Campaign], store: Store, simulator_url: str
) -> None:
    await submit(campaign, 50, sender="shop", content=Content(text="x" * 170))
    config = campaign(
        twilio(simulator_url, "new")
        + '[senders.shop]\nnew = ["+15005550001", "+15005550002"]\n'
        + '[[limits]]\nname = "own"\nprovider = "new"\neach = "sender"\nrate = "20/s"\n'
        + 'unit = "segment"\n'
    ).config
    assert (await move(store, config, "new")).moved.total() == 50
    views = await store.inspector.lanes(await store.inspector.lane_names(["new"]))
    assert {view.lane.partition("sender=")[2] for view in views} == {"+15005550001", "+15005550002"}
    limits = Limits(config, {"new": 1})
    assert all(view.limits == limits.of(view.lane) for view in views)
    assert sum(view.waiting for view in views) == 50
    (name, *_) = [name async for name in store.client.scan_iter(store.keys.name("queue", "*"))]
    (_, fields), *_ = await store.client.xrange(name)
    assert (int(fields[b"n"]), int(fields[b"c"])) == (1, 2)
    assert decode_body(fields[b"body"])[0].providers == ("new",)


async def test_what_the_provider_cannot_carry_stays(
    campaign: Callable[[str], Campaign], store: Store, simulator_url: str
) -> None:
    await submit(campaign, 5, sender="shop")
    config = campaign(OLD + webhook(simulator_url) + '[senders.shop]\nold = "SHOP"\n').config
    report = await move(store, config)
    assert report.moved.total() == 0
    assert report.left == {"senders.shop names no sender of hook": 5}
    (view,) = await store.inspector.lanes(await store.inspector.lane_names(["old"]))
    assert view.waiting == 5


async def test_what_a_worker_holds_stays_with_it(
    campaign: Callable[[str], Campaign], store: Store, simulator_url: str
) -> None:
    batch = await submit(campaign, 1500, class_="bulk")
    await campaign(OLD).store.queue.write_limits(Limits(campaign(OLD).config, {}).definitions(0))
    await store.queue.heartbeat("w1", first=True)
    claim = await store.queue.claim("old", "w1", 700, 10, [])
    held = sum(entry.count for grant in claim.grants for entry in grant.entries)
    after = campaign(webhook(simulator_url))
    report = await move(store, after.config)
    assert report.moved.total() == 1500 - held
    assert report.held.total() == held
    await store.queue.leave("w1")
    assert (await move(store, after.config)).moved.total() == held
    async with after.work():
        assert await after.finished(batch) == {"sent": 1500}
    after.assert_each_arrived_once((batch, 1500))


async def test_a_provider_that_is_not_there(
    configure: Callable[[str], Config], store: Store
) -> None:
    with pytest.raises(UsageError, match="there is no provider neww; configured: old"):
        await move(store, configure(OLD), "neww")


async def test_a_queue_that_nobody_serves_is_orphaned(
    campaign: Callable[[str], Campaign], store: Store, simulator_url: str
) -> None:
    await submit(campaign, 2)
    await store.queue.write_limits(Limits(campaign(OLD).config, {}).definitions(0))

    async def orphaned(config: Config) -> list[bool]:
        states = (await lane_states(store.inspector, config.providers)).lanes
        return [state["orphaned"] for state in states]

    assert await orphaned(campaign(OLD).config) == [False]
    assert await orphaned(campaign(webhook(simulator_url)).config) == [True]
    await store.queue.heartbeat("w1", first=True)
    await store.queue.claim("old", "w1", 0, 10, [])
    assert await orphaned(campaign(webhook(simulator_url)).config) == [False]
