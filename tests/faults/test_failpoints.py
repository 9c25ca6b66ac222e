"""A process dies at each named place, and others end what it had begun."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from dispatcher import failpoints
from dispatcher.errors import ConfigError
from tests.campaign import Campaign, numbers, twilio, until, webhook
from tests.faults.workers import ROOT, ended, registered, worker

Write = Callable[[str], Path]
Start = Callable[[str], Campaign]
ON_THE_WAY = (
    "before_claim:3", "after_claim:3", "before_send:5", "after_send:5", "after_answer:5",
    "before_settle:2", "after_settle:2", "before_heartbeat:2", "after_heartbeat:2",
)  # fmt: skip
AT_A_DEATH = ("before_reclaim", "after_reclaim")
AT_THE_END = ("before_drain", "before_leave")
LEASE = '[worker]\nlease = "1500ms"\nport = 0\n'


async def under_load(run: Campaign, until_over: Callable[[], bool]) -> list[str]:
    """Submit batches of 100 until something is over; their ids."""
    batches = []
    while not until_over():
        batches.append(await run.submit(numbers(100), "bulk"))
        await asyncio.sleep(0.2)
    return batches


async def assert_accounted_for(run: Campaign, batches: list[str]) -> None:
    """Each message is sent once, or unknown and listed."""
    known: set[str] = set()
    for batch in batches:
        counts = await run.finished(batch)
        assert counts.keys() <= {"sent", "unknown"}
        assert sum(counts.values()) == 100
        known |= run.ids(batch, 100)
    arrived = run.arrived()
    assert set(arrived.values()) == {1}
    assert arrived.keys() | (await run.letters()).keys() == known


async def test_workers_die_on_the_way_of_a_message(
    campaign: Start, config_file: Write, simulator_url: str
) -> None:
    toml = twilio(simulator_url, rate="500/s", on_unknown="hold") + LEASE
    run, path = campaign(toml), config_file(toml)
    with ExitStack() as stack:
        doomed = [stack.enter_context(worker(path, place)) for place in ON_THE_WAY]
        batches = await under_load(run, lambda: ended(doomed))
        async with run.work():
            await assert_accounted_for(run, batches)
    assert [process.returncode for process in doomed] == [-signal.SIGKILL] * len(doomed)
    assert await run.is_empty()


@pytest.mark.parametrize(("place", "arrived"), [("before_send:5", 4), ("after_send:5", 5)])
async def test_a_request_leaves_between_two_places(
    place: str, arrived: int, campaign: Start, config_file: Write, simulator_url: str
) -> None:
    toml = twilio(simulator_url, rate="30/s", on_unknown="hold") + LEASE
    run = campaign(toml)
    await run.submit(numbers(20), "bulk")
    with worker(config_file(toml), place) as process:
        assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL

    async def there() -> bool:
        return run.simulator.counts.requests == arrived

    await until(there)


@pytest.mark.parametrize("place", AT_A_DEATH)
async def test_a_worker_dies_as_it_takes_over(
    place: str, campaign: Start, config_file: Write, simulator_url: str
) -> None:
    toml = twilio(simulator_url, rate="500/s", on_unknown="hold") + LEASE
    run, path = campaign(toml), config_file(toml)
    with worker(path, "after_send:5") as first:
        batches = await under_load(run, lambda: ended([first]))
    with worker(path, place) as second:
        batches += await under_load(run, lambda: ended([second]))
    async with run.work():
        await assert_accounted_for(run, batches)
    assert [first.returncode, second.returncode] == [-signal.SIGKILL] * 2
    assert await run.is_empty()


@pytest.mark.parametrize("place", AT_THE_END)
async def test_a_worker_dies_as_it_ends(
    place: str, campaign: Start, config_file: Write, simulator_url: str
) -> None:
    toml = twilio(simulator_url, rate="300/s", on_unknown="hold") + LEASE
    run = campaign(toml)
    batches = [await run.submit(numbers(100), "bulk") for _ in range(3)]
    with worker(config_file(toml), place) as process:

        async def sending() -> bool:
            return run.simulator.counts.accepted > 20

        await until(sending)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL
    async with run.work():
        await assert_accounted_for(run, batches)
        await registered(run.store, 1)
    assert await run.is_empty()


@pytest.mark.parametrize("place", ["before_enqueue:2", "after_enqueue:2"])
async def test_a_submitter_dies_and_resumes(
    place: str, campaign: Start, config_file: Write, simulator_url: str, tmp_path: Path
) -> None:
    toml = webhook(simulator_url)
    run, path = campaign(toml), config_file(toml)
    file = tmp_path / "people.csv"
    file.write_text("\n".join(["to", *numbers(4500)]))
    words = ("send", str(file), "--channel", "sms", "--from", "SHOP", "--text", "Hi")
    died = await send(path, *words, failpoint=place)
    assert died.returncode == -signal.SIGKILL
    batch = died.stderr.decode().split()[1]
    resumed = await send(path, *words, "--resume", batch)
    assert resumed.returncode == 0, resumed.stderr
    async with run.work():
        assert await run.finished(batch) == {"sent": 4500}
    run.assert_each_arrived_once((batch, 4500))


async def send(
    config: Path, *words: str, failpoint: str = ""
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dispatcher", "--config", str(config), *words]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), failpoints.VARIABLE: failpoint}
    return await asyncio.to_thread(
        subprocess.run, command, env=environ, capture_output=True, timeout=60
    )


def test_every_place_is_tried() -> None:
    tried = {place.partition(":")[0] for place in (*ON_THE_WAY, *AT_A_DEATH, *AT_THE_END)}
    submitting = {"before_enqueue", "between_cells", "after_enqueue"}
    assert tried | submitting == set(failpoints.PLACES)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nowhere:3", "no place 'nowhere' (known: before_enqueue, between_cells, after_enqueue,"),
        ("after_send:x", "'after_send:x' is not PLACE[:PASSAGE[:SECONDS]]"),
        ("after_send:0", "'after_send:0' is not"),
        ("after_send:1:-2", "'after_send:1:-2' is not"),
    ],
)
def test_an_order_nobody_can_follow(text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        failpoints.arm(text)
    assert str(caught.value).startswith(f"DISPATCHER_FAILPOINT: {line}")


def test_the_nth_passage_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr(failpoints, "passed", failpoints.passed)
    failpoints.arm("before_send:2:4.5, after_claim:1:7")
    for _ in range(3):
        failpoints.passed("before_send")
    assert slept == [4.5]
    failpoints.passed("after_claim")
    failpoints.passed("before_settle")
    assert slept == [4.5, 7.0]
