"""What the options of `send` do, to the store and on the screen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dispatcher.simulator import Settings, Simulator, WebhookAccount
from dispatcher.store.opening import Store
from tests.campaign import Campaign
from tests.cli.command import HI, SEND, Commands, csv_of, number, stored
from tests.cli.inside import Inside

Start = Callable[[str], Campaign]
HOOK = '[providers.hook]\nkind = "webhook"\nurl = "{}/webhook/demo"\n'
CARRIERS = '[carriers.blue]\nprefixes = ["+491510"]\n'


@pytest.fixture
async def simulator() -> Simulator:
    return Simulator(Settings((WebhookAccount(rejects=(number(3),)),)))


@pytest.fixture
async def worker(
    commands: Commands, campaign: Start, simulator: Simulator
) -> AsyncIterator[Simulator]:
    """While a worker sends to the simulator, which refuses recipient 3."""
    run = campaign(HOOK.format(await simulator.start()) + "[retry]\nmax_attempts = 1\n")
    async with run.work():
        yield simulator


def test_dry_run_writes_nothing(
    commands: Commands, inside: Inside, config_file: Callable[[str], Path]
) -> None:
    config_file(HOOK.format("http://127.0.0.1:9") + CARRIERS)
    rows = ["+4915101234567,Ann", "+4915101234568,Bob", "+12125550100,Cy", "x,Di"]
    commands.write("rows.csv", csv_of(rows))
    result = inside.send("rows.csv", *HI, "--dry-run")
    assert result.code == 1
    assert [line.split() for line in result.out.splitlines()] == [
        ["3", "would", "be", "accepted,", "1", "rejected"],
        ["blue", "2"],
        ["us", "1"],
    ]
    result = inside.send("rows.csv", *HI, "--dry-run", "--json")
    assert result.found == {
        "batch": None, "accepted": 3, "resumed": 0, "rejected": 1, "duplicates": 0,
        "carriers": {"blue": 2, "us": 1}, "counts": None,
    }  # fmt: skip
    assert inside.run("status", "--json").found["batches"] == 0


async def test_dedupe_sends_once_to_whoever_could_be_reached(
    commands: Commands, inside: Inside, store: Store
) -> None:
    rows = [
        '{"to": "+4915112345678"}',
        '{"to": "+4915112345678", "name": "Ann"}',
        '{"to": "+49 (151) 12345678", "name": "Ann again"}',
        '{"to": "+4915112345679", "name": "Bob"}',
        '{"to": "+4915112345678", "name": "Ann once more"}',
    ]
    commands.write("rows.jsonl", "\n".join(rows))
    result = await inside.call("send", "rows.jsonl", *SEND, *HI, "--dedupe")
    assert result.out == "2 accepted, 1 rejected, 2 duplicates left out\n"
    accepted = [one.row.values for one in await stored(store, result.batch)]
    assert accepted == [("Ann",), ("Bob",)]
    result = await inside.call("send", "rows.jsonl", *SEND, *HI)
    assert result.out == "4 accepted, 1 rejected\n"


async def test_stdin_and_json(commands: Commands, store: Store) -> None:
    result = commands.send("-", *HI, "--json", stdin=csv_of([f"{number(1)},Ann"]).encode())
    assert (result.code, result.err) == (0, [])
    assert result.found == {
        "batch": result.batch, "accepted": 1, "resumed": 0, "rejected": 0, "duplicates": 0,
        "carriers": {"de": 1}, "counts": None,
    }  # fmt: skip
    assert [one.row.to for one in await stored(store, result.batch)] == [number(1)]


async def test_wait_fails_when_something_is_dead(
    commands: Commands, inside: Inside, worker: Simulator
) -> None:
    commands.write("good.csv", csv_of(f"{number(i)},Ann" for i in range(3)))
    result = await inside.call("send", "good.csv", *SEND, *HI, "--wait")
    assert (result.code, result.out) == (0, "3 accepted, 0 rejected\n3 sent\n")
    commands.write("bad.csv", csv_of(f"{number(i)},Ann" for i in range(5)))
    result = await inside.call("send", "bad.csv", *SEND, *HI, "--wait")
    assert (result.code, result.out) == (1, "5 accepted, 0 rejected\n4 sent, 1 dead\n")


async def test_at_is_scheduled(commands: Commands, inside: Inside) -> None:
    commands.write("rows.csv", csv_of(f"{number(i)},Ann" for i in range(5)))
    at = ("--at", "2126-11-27T09:00:00+01:00")
    batch = (await inside.call("send", "rows.csv", *SEND, *HI, *at)).batch
    found = (await inside.call("status", batch, "--json")).found
    assert (found["total"], found["scheduled"], found["queued"]) == (5, 5, 0)
    one = (await inside.call("status", f"{batch}-4", "--json")).found
    assert one["status"] == "scheduled"
    again = await inside.call("send", "rows.csv", *SEND, *HI, *at, "--resume", batch)
    assert again.out == "5 accepted, 0 rejected, 5 of them before\n"


async def test_at_is_sent_then_and_not_before(
    commands: Commands, inside: Inside, worker: Simulator
) -> None:
    commands.write("rows.csv", csv_of(f"{number(10 + i)},Ann" for i in range(5)))
    due = datetime.now(UTC) + timedelta(seconds=3)
    result = await inside.call("send", "rows.csv", *SEND, *HI, "--at", due.isoformat(), "--wait")
    assert result.out == "5 accepted, 0 rejected\n5 sent\n"
    arrived = [entry.wall_us for entry in worker.journal.entries()]
    assert len(arrived) == 5
    assert min(arrived) >= due.timestamp() * 1e6


async def test_ttl_ends_what_was_not_sent(
    commands: Commands, inside: Inside, campaign: Start, simulator: Simulator
) -> None:
    run = campaign(HOOK.format(await simulator.start()))
    commands.write("rows.csv", csv_of(f"{number(10 + i)},Ann" for i in range(5)))
    first = await inside.call("send", "rows.csv", *SEND, *HI, "--ttl", "1ms")
    assert first.code == 0
    async with run.work():
        send = ("send", "rows.csv", *SEND, *HI, "--ttl", "1h", "--wait", "--json")
        second = (await inside.call(*send)).found
        assert second["counts"]["sent"] == 5
        assert await run.finished(first.batch) == {"expired": 5}
    found = (await inside.call("status", first.batch, "--json")).found
    assert (found["expired"], found["total"]) == (5, 5)
    assert {entry.message.partition("-")[0] for entry in simulator.journal.entries()} == {
        second["batch"]
    }


def test_a_part_that_can_never_fit_is_refused(
    commands: Commands, inside: Inside, config_file: Callable[[str], Path]
) -> None:
    path = config_file(HOOK.format("http://127.0.0.1:9"))
    path.write_text(path.read_text().replace("[store]", "[store]\nmax_queued = 10", 1))
    commands.write("rows.csv", csv_of(f"{number(i)},Ann" for i in range(20)))
    result = inside.send("rows.csv", *HI)
    line = "dispatcher: [store] max_queued = 10 is less than 20 at a time"
    assert (result.code, result.err) == (2, [line])
