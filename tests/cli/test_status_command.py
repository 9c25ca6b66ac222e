"""`status`: totals, a batch, a message; plain and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.messages import Status, new_ulid
from dispatcher.simulator import Settings, Simulator, WebhookAccount
from tests.campaign import Campaign
from tests.cli.command import HI, SEND, Commands, Result, csv_of, number
from tests.cli.inside import Inside

STATUSES = {status.word for status in Status}
REFUSED = 2


@pytest.fixture
async def sent(inside: Inside, commands: Commands, campaign: Callable[[str], Campaign]) -> Result:
    """A batch of five, of which the third was refused by the provider; then one that waits."""
    simulator = Simulator(Settings((WebhookAccount(rejects=(number(REFUSED),)),)))
    url = await simulator.start()
    run = campaign(f'[providers.hook]\nkind = "webhook"\nurl = "{url}/webhook/demo"\n')
    rows = (f"{number(i)},Ann,order-{i}" for i in range(5))
    commands.write("rows.csv", csv_of(rows, "to,name,ref"))
    async with run.work():
        sent = await inside.call("send", "rows.csv", *SEND, *HI, "--wait")
    await inside.call("send", "rows.csv", *SEND, *HI)
    await simulator.stop()
    return sent


def plain(text: str) -> dict[str, str]:
    rows = (line.split(maxsplit=1) for line in text.splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def add_up(found: dict[str, int]) -> bool:
    return found.keys() >= STATUSES and sum(found[name] for name in STATUSES) == found["total"]


async def test_what_a_store_knows(inside: Inside, sent: Result) -> None:
    totals = (await inside.call("status", "--json")).found
    assert add_up(totals)
    assert (totals["total"], totals["batches"], totals["workers"]) == (10, 2, 0)
    assert (totals["sent"], totals["dead"], totals["queued"]) == (4, 1, 5)
    shown = plain((await inside.call("status")).out)
    assert shown == {
        "total": "10", "queued": "5", "sent": "4", "dead": "1", "batches": "2", "workers": "0",
    }  # fmt: skip

    batch = (await inside.call("status", sent.batch, "--json")).found
    assert add_up(batch)
    assert (batch["total"], batch["sent"], batch["dead"]) == (5, 4, 1)
    assert batch["codes"] == {"dead:422": 1}
    assert (batch["batch"], batch["channel"], batch["tenant"]) == (sent.batch, "sms", "default")
    shown = plain((await inside.call("status", sent.batch)).out)
    assert shown.items() >= {"total": "5", "sent": "4", "dead": "1", "dead:422": "1"}.items()


async def test_the_story_of_a_message(inside: Inside, sent: Result) -> None:
    one = (await inside.call("status", f"{sent.batch}-0", "--json")).found
    assert (one["status"], one["ref"], one["to"]) == ("sent", "order-0", number(0))
    assert (one["provider"], one["carrier"], one["attempts_used"]) == ("hook", "de", 1)
    assert one["provider_id"].startswith("WH")
    dead = (await inside.call("status", f"{sent.batch}-{REFUSED}", "--json")).found
    assert (dead["status"], dead["error"]["code"]) == ("dead", "422")
    assert [(one["provider"], one["code"]) for one in dead["attempts"]] == [("hook", "422")]
    shown = plain((await inside.call("status", f"{sent.batch}-{REFUSED}")).out)
    assert shown.items() >= {"status": "dead", "to": number(REFUSED), "code": "422"}.items()


@pytest.mark.parametrize("index", ["", "-0"])
def test_an_unknown_id(inside: Inside, index: str) -> None:
    name = f"{new_ulid(1)}{index}"
    result = inside.run("status", name)
    assert (result.code, result.out) == (1, "")
    assert result.err == [f"dispatcher: {name} is not known in this store"]


async def test_a_message_that_a_settled_batch_never_had(inside: Inside, sent: Result) -> None:
    result = await inside.call("status", f"{sent.batch}-5")
    assert (result.code, result.out) == (1, "")
    assert result.err == [f"dispatcher: {sent.batch}-5 is not known in this store"]


def test_an_empty_store(inside: Inside) -> None:
    found = inside.run("status", "--json").found
    assert add_up(found)
    assert found["total"] == 0


def test_config_check_and_show(inside: Inside) -> None:
    checked = inside.run("config", "check")
    assert (checked.code, checked.err) == (0, [])
    assert checked.out.startswith(f"{Path.cwd()}/dispatcher.toml: ok (1 provider, ")
    shown = inside.run("config", "show", "--json")
    assert shown.found["providers"]["hook"]["url"] == "http://127.0.0.1:9/webhook/demo"
