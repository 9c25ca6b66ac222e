"""What operators do holds in every cell: suspensions, dead letters, moves, the audit."""

from __future__ import annotations

from dispatcher.engine.lane_states import lanes_of
from dispatcher.engine.letters import Replay, Selection, drop, newest
from dispatcher.engine.moving import Mover
from dispatcher.engine.resolving import Resolution, saying
from dispatcher.messages import Status
from dispatcher.simulator.faults import ResetAfter
from dispatcher.store.letters import Letters
from dispatcher.store.moving import Moving
from dispatcher.store.operations import FOREVER, Action, Operations
from tests.campaign import SID, numbers, twilio
from tests.cells.conftest import WEST, Start, halves, in_cell


def action(what: str) -> Action:
    return Action(what, "ann", what, "*", reason="a test")


async def test_a_pattern_is_suspended_in_all_of_them(over_cells: Start, simulator_url: str) -> None:
    run = await over_cells(halves(simulator_url))
    operations = Operations(run.store.client, run.store.keys)
    batch = await run.submit(numbers(60))
    done = await operations.suspend("*/sms/de", FOREVER, action("suspend"))
    assert done.lanes == ["twilio/sms/de", "west/sms/de"]
    views = await run.store.inspector.lanes(done.lanes)
    assert [view.reason for view in views] == ["a test", "a test"]
    (held,) = (await run.store.inspector.suspensions()).holding
    assert held.pattern == "*/sms/de"
    async with run.work():
        resumed = await operations.resume("*/sms/de", action("resume"))
        assert resumed is not None
        assert resumed.lanes == done.lanes
        assert await run.finished(batch) == {"sent": 60}
    actions = await run.store.inspector.actions()
    assert {(view.what, view.affected) for view in actions} == {("suspend", 2), ("resume", 2)}


async def test_what_is_suspended_is_so_in_a_cell_that_comes_later(
    over_cells: Start, simulator_url: str
) -> None:
    before = await over_cells(twilio(simulator_url))
    operations = Operations(before.store.client, before.store.keys)
    for pattern in ("*/sms/de", "*/sms/us"):
        await operations.suspend(pattern, FOREVER, action("suspend"))
    await operations.resume("*/sms/us", action("resume"))
    run = await over_cells(halves(simulator_url))
    batch = await run.submit(numbers(60))
    views = await run.store.inspector.lanes(["west/sms/de", "west/sms/us"])
    assert [view.reason for view in views] == ["a test", ""]
    operations = Operations(run.store.client, run.store.keys)
    async with run.work():
        await operations.resume("*/sms/de", action("resume"))
        assert await run.finished(batch) == {"sent": 60}


async def test_dead_letters_of_all_of_them(over_cells: Start, simulator_url: str) -> None:
    run = await over_cells(halves(simulator_url))
    for account in (SID, WEST):
        run.simulator.change_account(f"twilio/{account}", numbers=["+15550001"])
    batch = await run.submit(numbers(60))
    async with run.work():
        assert await run.finished(batch) == {"dead": 60}
    letters = Letters(run.store.client, run.store.keys)
    assert await letters.count() == 60
    latest = await newest(letters, Selection(), 100)
    assert {found.letter.lane for found in latest} == {"twilio/sms/de", "west/sms/de"}
    assert [found.at_us for found in latest] == sorted([f.at_us for f in latest], reverse=True)
    some = Selection(messages=tuple(f"{batch}-{n}" for n in range(10)))
    tally = await drop(letters, some, action("drop"), dry_run=False)
    assert (tally.messages, await letters.count()) == (10, 50)
    for account in (SID, WEST):
        run.simulator.change_account(f"twilio/{account}", numbers=[])
    replay = Replay(letters, await run.store.inspector.now_us(), 0.0, 3600)
    assert (await replay.run(Selection(), action("replay"), dry_run=False)).messages == 50
    async with run.work():
        assert await run.finished(batch) == {"dead": 10, "sent": 50}
    assert await letters.count() == 0
    done = {view.what: view.affected for view in await run.store.inspector.actions()}
    assert done == {"drop": 10, "replay": 50}


async def test_unknown_outcomes_of_all_of_them(over_cells: Start, simulator_url: str) -> None:
    run = await over_cells(halves(simulator_url))
    run.simulator.set_faults([ResetAfter(every=1)])
    batch = await run.submit(numbers(20), "bulk")
    async with run.work():
        assert await run.finished(batch) == {"unknown": 20}
    letters = Letters(run.store.client, run.store.keys)
    assert [0 < await cell.count() < 20 for cell in letters.cells] == [True, True]
    resolution = Resolution(run.store, 3600, action("resolve"), dry_run=False)
    said = [saying(f"{batch}-{index}", "delivered") for index in range(10)]
    assert await resolution.say_each(said) == [""] * 10
    await resolution.say(Selection(), Status.UNDELIVERED)
    assert resolution.view()["outcomes"] == {"delivered": 10, "undelivered": 10}
    assert await run.counts(batch) == {"delivered": 10, "undelivered": 10}
    assert await letters.count() == 0
    (done,) = await run.store.inspector.actions()
    assert (done.what, done.affected) == ("resolve", 20)
    assert await resolution.say_each(said[:1]) == [""]
    assert resolution.view()["already"] == 1


async def test_what_waits_moves_to_a_provider_in_another_cell(
    over_cells: Start, simulator_url: str
) -> None:
    run = await over_cells(halves(simulator_url))
    batch = await run.submit(numbers(60))
    send_at_us = await run.store.inspector.now_us() + 3_600_000_000
    later = await run.submit(numbers(20), send_at_us=send_at_us)
    mover = Mover(run.ingest, Moving(run.store.client, run.store.keys), "west", action("move"))
    report = await mover.move("twilio/*", await lanes_of(run.store.inspector, "twilio/*"))
    assert report.moved.total() > 20
    assert await in_cell(run, "eu", batch) == {"total": 60, "queued": 60}
    assert await in_cell(run, "eu", later) == {"total": 20, "scheduled": 20}
    again = await mover.move("twilio/*", await lanes_of(run.store.inspector, "twilio/*"))
    assert again.moved.total() == 0
    async with run.work():
        assert (await run.finished(batch)) == {"sent": 60}
    run.assert_each_arrived_once((batch, 60))
    assert {entry.account for entry in run.simulator.journal.entries()} == {f"twilio/{WEST}"}
