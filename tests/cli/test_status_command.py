"""`status`: totals, a batch, a message; plain and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.messages import Status, new_ulid
from dispatcher.simulator import Settings, Simulator, WebhookAccount
from tests.cli.command import HI, SEND, Commands, Result, csv_of, number

STATUSES = {status.word for status in Status}
REFUSED = 2


@pytest.fixture
async def sent(commands: Commands, config_file: Callable[[str], Path], tmp_path: Path) -> Result:
    """A batch of five, of which the third was refused by the provider; then one that waits."""
    simulator = Simulator(Settings((WebhookAccount(rejects=(number(REFUSED),)),)))
    url = await simulator.start()
    config_file(f'[providers.hook]\nkind = "webhook"\nurl = "{url}/webhook/demo"\n')
    rows = (f"{number(i)},Ann,order-{i}" for i in range(5))
    commands.write("rows.csv", csv_of(rows, "to,name,ref"))
    worker = commands.start("worker")
    sent = await commands.call("send", "rows.csv", *SEND, *HI, "--wait")
    worker.terminate()
    assert (await commands.ended(worker)).code == 0
    await commands.call("send", "rows.csv", *SEND, *HI)
    await simulator.stop()
    return sent


def plain(text: str) -> dict[str, str]:
    rows = (line.split(maxsplit=1) for line in text.splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def add_up(found: dict[str, int]) -> bool:
    return found.keys() >= STATUSES and sum(found[name] for name in STATUSES) == found["total"]


async def test_what_a_store_knows(commands: Commands, sent: Result) -> None:
    totals = commands.run("status", "--json").found
    assert add_up(totals)
    assert (totals["total"], totals["batches"], totals["workers"]) == (10, 2, 0)
    assert (totals["sent"], totals["dead"], totals["queued"]) == (4, 1, 5)
    shown = plain(commands.run("status").out)
    assert shown == {
        "total": "10", "queued": "5", "sent": "4", "dead": "1", "batches": "2", "workers": "0",
    }  # fmt: skip

    batch = commands.run("status", sent.batch, "--json").found
    assert add_up(batch)
    assert (batch["total"], batch["sent"], batch["dead"]) == (5, 4, 1)
    assert batch["codes"] == {"dead:422": 1}
    assert (batch["batch"], batch["channel"], batch["tenant"]) == (sent.batch, "sms", "default")
    shown = plain(commands.run("status", sent.batch).out)
    assert shown.items() >= {"total": "5", "sent": "4", "dead": "1", "dead:422": "1"}.items()


async def test_the_story_of_a_message(commands: Commands, sent: Result) -> None:
    one = commands.run("status", f"{sent.batch}-0", "--json").found
    assert (one["status"], one["ref"], one["to"]) == ("sent", "order-0", number(0))
    assert (one["provider"], one["carrier"], one["attempts_used"]) == ("hook", "de", 1)
    assert one["provider_id"].startswith("WH")
    dead = commands.run("status", f"{sent.batch}-{REFUSED}", "--json").found
    assert (dead["status"], dead["error"]["code"]) == ("dead", "422")
    assert [(one["provider"], one["code"]) for one in dead["attempts"]] == [("hook", "422")]
    shown = plain(commands.run("status", f"{sent.batch}-{REFUSED}").out)
    assert shown.items() >= {"status": "dead", "to": number(REFUSED), "code": "422"}.items()


@pytest.mark.parametrize("index", ["", "-0"])
def test_an_unknown_id(commands: Commands, index: str) -> None:
    name = f"{new_ulid(1)}{index}"
    result = commands.run("status", name)
    assert (result.code, result.out) == (1, "")
    assert result.err == [f"dispatcher: {name} is not known in this store"]


async def test_a_message_that_a_settled_batch_never_had(commands: Commands, sent: Result) -> None:
    result = commands.run("status", f"{sent.batch}-5")
    assert (result.code, result.out) == (1, "")
    assert result.err == [f"dispatcher: {sent.batch}-5 is not known in this store"]


def test_an_empty_store(commands: Commands) -> None:
    found = commands.run("status", "--json").found
    assert add_up(found)
    assert found["total"] == 0


def test_config_check_and_show(commands: Commands) -> None:
    checked = commands.run("config", "check")
    assert (checked.code, checked.err) == (0, [])
    assert checked.out.startswith(f"{commands.directory}/dispatcher.toml: ok (1 provider, ")
    shown = commands.run("config", "show", "--json")
    assert shown.found["providers"]["hook"]["url"] == "http://127.0.0.1:9/webhook/demo"
