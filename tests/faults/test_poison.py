"""One message ends every worker that composes it: it ends as a dead letter, the others are sent."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.campaign import Campaign, numbers, webhook
from tests.cli.command import Commands
from tests.faults.poisonous import POISON

Write = Callable[[str], Path]
Start = Callable[[str], Campaign]
CREW = '[retry]\nbase = "200ms"\nmax = "400ms"\n[worker]\nprocesses = 2\nlease = "10m"\nport = 0\n'


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path)
    yield commands
    commands.end()


async def work_through(
    run: Campaign, commands: Commands, batch: str
) -> tuple[dict[str, int], list[str]]:
    """What two workers under a supervisor make of a batch, and each death of one."""
    crew = commands.start("worker")
    counts = await run.finished(batch, 50)
    crew.send_signal(signal.SIGTERM)
    result = await commands.ended(crew)
    lines = [msgspec.json.decode(line)["message"] for line in result.err]
    return counts, [line for line in lines if "ended with code 70" in line]


def poisonous(url: str, rule: str) -> str:
    table = webhook(url, on_unknown=rule).replace('"webhook"', '"tests.faults.poisonous:Poisonous"')
    return table + CREW


async def test_resend_finds_the_one_message(
    campaign: Start, config_file: Write, commands: Commands, simulator_url: str
) -> None:
    toml = poisonous(simulator_url, "resend")
    config_file(toml)
    run = campaign(toml)
    batch = await run.submit(numbers(24))
    counts, deaths = await work_through(run, commands, batch)
    assert counts == {"sent": 23, "dead": 1}
    assert len(deaths) == 4
    (letter,) = (await run.letters()).values()
    assert letter.code == "poison"
    assert "4 workers ended while they had it" in letter.detail
    bad = numbers(24).index(POISON)
    assert run.arrived().keys() == run.ids(batch, 24) - {f"{batch}-{bad}"}
    assert (await run.records(batch))[bad][1].code == "poison"
    assert await run.is_empty()


async def test_hold_sends_nothing_again(
    campaign: Start, config_file: Write, commands: Commands, simulator_url: str
) -> None:
    toml = poisonous(simulator_url, "hold")
    config_file(toml)
    run = campaign(toml)
    batch = await run.submit(numbers(24), class_="bulk")
    counts, deaths = await work_through(run, commands, batch)
    bad = f"{batch}-{numbers(24).index(POISON)}"
    assert len(deaths) == 1
    assert sum(counts.values()) == 24
    assert counts.keys() <= {"sent", "unknown"}
    letters = await run.letters()
    assert letters[bad].code == "worker_lost"
    assert set(run.arrived().values()) <= {1}
    assert await run.is_empty()
