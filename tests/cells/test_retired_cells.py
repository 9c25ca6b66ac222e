"""A cell that the configuration names no more, and a provider that has got another one: what waits
there is seen, and goes on."""

from __future__ import annotations

import pytest

from dispatcher.engine.gauges import readings
from dispatcher.engine.lane_states import lane_states, lanes_of
from dispatcher.engine.letters import Replay, Selection, drop
from dispatcher.engine.moving import Mover
from dispatcher.engine.overlook import overlook
from dispatcher.engine.runtime import write_limits
from dispatcher.store.crossings import Crossings
from dispatcher.store.joining import open_survey
from dispatcher.store.letters import Letters
from dispatcher.store.moving import Moving
from dispatcher.store.operations import Action
from tests.campaign import Campaign, numbers, twilio, until
from tests.cells.conftest import (
    WEST,
    Start,
    assert_nothing_left,
    in_cell,
    messages_leaving,
    two_providers,
)

WEST_FIRST = '[[routes]]\nproviders = ["west", "twilio"]\n'
QUICK = '[worker]\nlease = "1s"\n'


async def leaving(run: Campaign) -> float:
    """What operators see of entries on their way."""
    found = await overlook(open_survey(run.store.client, run.store.keys), run.config.providers)
    return (await readings(found, run.config.providers))["dispatcher_leaving_entries"][()]


async def test_what_leaves_it_is_carried(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = await over_cells(two_providers(simulator_url) + WEST_FIRST + QUICK)
    both.simulator.change_account(f"twilio/{WEST}", suspended=True)
    batch = await both.submit(numbers(50))

    async def all_left() -> bool:
        return await messages_leaving(both) == 50

    async def nothing(self: Crossings, status_seconds: float) -> int:
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(Crossings, "carry", nothing)
        async with both.work():
            await until(all_left)

    run = await over_cells(twilio(simulator_url) + QUICK)
    assert await leaving(run) == await run.store.inspector.leaving() > 0
    async with run.work():
        assert await run.finished(batch) == {"sent": 50}
        assert await run.store.inspector.workers() == 1
    assert await leaving(run) == 0
    run.assert_each_arrived_once((batch, 50))
    await assert_nothing_left(run)


async def test_what_waits_there_is_orphaned_and_can_be_moved(
    over_cells: Start, simulator_url: str
) -> None:
    both = await over_cells(two_providers(simulator_url) + WEST_FIRST + QUICK)
    batch = await both.submit(numbers(50))
    due_us = await both.store.inspector.now_us() + 1_500_000
    later = await both.submit(numbers(30), send_at_us=due_us)

    run = await over_cells(twilio(simulator_url) + QUICK)
    assert await orphaned(run) == [50, 50]
    assert (await run.view(batch)).counts["queued"] == 50

    async def due() -> bool:
        return await orphaned(run) == [80, 80]

    async with run.work():
        await until(due)
        action = Action("m", "ann", "move", "west/*")
        mover = Mover(run.ingest, Moving(run.store.client, run.store.keys), "twilio", action)
        report = await mover.move("west/*", await lanes_of(run.store.inspector, "west/*"))
        assert report.moved.total() == 80
        assert await run.finished(batch) == {"sent": 50}
        assert await run.finished(later) == {"sent": 30}
    run.assert_each_arrived_once((batch, 50), (later, 30))
    await assert_nothing_left(run)


async def orphaned(run: Campaign) -> list[float]:
    """Messages that wait for a provider nobody serves: what `lanes` shows, and the gauge."""
    states = await lane_states(run.store.inspector, run.config.providers)
    shown = sum(lane["waiting"] for lane in states.lanes if lane["orphaned"])
    found = await overlook(open_survey(run.store.client, run.store.keys), run.config.providers)
    told = await readings(found, run.config.providers)
    return [shown, told["dispatcher_orphaned_messages"][()]]


async def test_what_a_worker_that_died_held_there_waits_again(
    over_cells: Start, simulator_url: str
) -> None:
    both = await over_cells(two_providers(simulator_url) + WEST_FIRST + QUICK)
    await both.submit(numbers(20))
    await write_limits(both.store, both.ingest.limits, both.config.providers)
    queue = both.store.at("west").queue
    await queue.heartbeat("gone", first=True, lease=1.0)
    await queue.claim("west", "gone", 500, 10, [])

    run = await over_cells(twilio(simulator_url) + QUICK)
    assert await orphaned(run) == [0, 0]

    async def put_back() -> bool:
        return (await run.store.inspector.lanes(["west/sms/de"]))[0].waiting == 20

    async with run.work():
        await until(put_back)


async def test_a_provider_that_got_another_cell_sends_what_waits_in_the_old_one(
    over_cells: Start, simulator_url: str
) -> None:
    before = await over_cells(twilio(simulator_url, name="west", sid=WEST, cell="eu"))
    batch = await before.submit(numbers(300), class_="bulk")
    urgent = await before.submit(numbers(5, "+49152"), class_="urgent")
    run = await over_cells(twilio(simulator_url, name="west", sid=WEST) + QUICK)
    async with run.work():
        assert await run.finished(batch) == {"sent": 300}
        assert await run.finished(urgent) == {"sent": 5}
    run.assert_each_arrived_once((batch, 300), (urgent, 5))
    assert await in_cell(run, "main", batch) == {"total": 300, "sent": 300}
    await assert_nothing_left(run)


async def test_what_it_had_of_a_limit_counts_no_more(over_cells: Start, simulator_url: str) -> None:
    rate = '[carriers.de]\nrate = "100/s"\n'
    for toml in (two_providers(simulator_url), twilio(simulator_url)):
        run = await over_cells(toml + rate)
        await write_limits(run.store, run.ingest.limits, run.config.providers)
        found = await run.store.inspector.limits(["carrier:de", "provider:west"])
        assert found["carrier:de"].interval_us == pytest.approx(10_000)
        survey = open_survey(run.store.client, run.store.keys)
        (page,) = [page async for page in survey.limit_pages()]
        assert page["carrier:de"].interval_us == pytest.approx(10_000)
        assert "provider:west" in found


async def test_letters_of_a_provider_that_got_another_cell_are_replayed(
    over_cells: Start, simulator_url: str
) -> None:
    run = await over_cells(twilio(simulator_url, name="west", sid=WEST, cell="eu"))
    run.simulator.change_account(f"twilio/{WEST}", numbers=["+15550001"])
    batch = await run.submit(numbers(20))
    async with run.work():
        assert await run.finished(batch) == {"dead": 20}
    run.simulator.change_account(f"twilio/{WEST}", numbers=[])
    run = await over_cells(twilio(simulator_url, name="west", sid=WEST) + QUICK)
    letters = Letters(run.store.client, run.store.keys)
    some = Selection(messages=tuple(f"{batch}-{n}" for n in range(5)))
    action = Action("d", "ann", "drop", "*")
    assert (await drop(letters, some, action, dry_run=False)).messages == 5
    replay = Replay(letters, await run.store.inspector.now_us(), 0.0, 3600)
    again = action._replace(id="r", what="replay")
    assert (await replay.run(Selection(), again, dry_run=False)).messages == 15
    async with run.work():
        assert await run.finished(batch) == {"dead": 5, "sent": 15}
    assert await letters.count() == 0
