"""`limits`: what stands in the store and the configuration; `set` and `reset` while workers run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispatcher.simulator import Settings, Simulator, WebhookAccount
from dispatcher.store.opening import Store
from tests.cli.command import HI, SEND, Commands, csv_of, number
from tests.cli.inside import Inside

LIMITED = """
[providers.hook]
kind = "webhook"
url = "{url}"
[carriers.de]
rate = "{rate}"
[[limits]]
name = "numbers"
provider = "hook"
each = "sender"
rate = "1000/s"
"""
MESSAGES = 200
"""More than go at one per second while a test waits."""


@pytest.fixture
def limited(inside: Inside, config_file: Callable[[str], Path]) -> Inside:
    config_file(LIMITED.format(url="http://127.0.0.1:9/webhook/demo", rate="75/s"))
    return inside


def shown(inside: Inside) -> dict[str, Any]:
    return {body["name"]: body for body in inside.run("limits", "--json").found}


def test_the_limits_of_a_configuration(limited: Inside) -> None:
    found = shown(limited)
    assert found.keys() == {"provider:hook", "carrier:de"}
    assert found["provider:hook"]["rate"] is None
    carrier = found["carrier:de"]
    assert (carrier["rate"], carrier["configured"], carrier["set"]) == (75, 75, None)
    assert (carrier["used"], carrier["factor"]) == (0, 1)
    assert (carrier["quotas"], carrier["lanes"]) == ([], [])


def test_set_and_reset(limited: Inside) -> None:
    changed = limited.run("limits", "set", "carrier:de", "30/min")
    assert (changed.code, changed.err) == (0, [])
    assert changed.out == "carrier:de: 75/s -> 30/min, until reset\n"
    found = shown(limited)["carrier:de"]
    assert (found["rate"], found["configured"], found["set"]) == (0.5, 75, 0.5)
    assert found["set_until"] is None
    assert limited.run("limits", "reset", "carrier:de").out == (
        "carrier:de: 30/min -> 75/s, as configured\n"
    )
    assert shown(limited)["carrier:de"]["set"] is None
    again = limited.run("limits", "reset", "carrier:de")
    assert (again.code, again.out) == (0, "carrier:de: 75/s -> 75/s, as configured\n")


def test_set_for_a_while(limited: Inside) -> None:
    args = ("limits", "set", "provider:hook", "100/s", "--for", "1h")
    found = limited.run(*args, "--json").found
    assert (found["name"], found["rate"], found["configured"]) == ("provider:hook", 100, None)
    assert found["set_until"] == shown(limited)["provider:hook"]["set_until"]
    assert limited.run(*args).out == "provider:hook: 100/s -> 100/s, for 1h\n"


async def test_the_table(limited: Inside, store: Store) -> None:
    await limited.call("limits", "set", "carrier:de", "50/s")
    now = await store.inspector.now_us()
    name, lane = store.keys.name("limit", "carrier:de"), "hook/sms/de"
    state = {"tat": now + 3600 * 10**6, "factor": 0.05, "factored": now + 3600 * 10**6}
    quota = {"quota:day": 2000, "used:day": 1234, "ends:day": now + 10**9, "quotas": 1}
    await store.client.hset(name, mapping=state | quota | {"pause": now + 30 * 60 * 10**6})
    fields = {"limits": "provider:hook carrier:de", "depth:bulk": 3}
    await store.client.hset(store.keys.name("lane", lane), mapping=fields)
    await store.client.zadd(store.keys.name("lanes", "hook"), {lane: now})
    lines = (await limited.call("limits")).out.splitlines()
    assert lines[0].split() == ["limit", "rate", "used", "waiting"]
    assert " ".join(lines[1].split()) == "carrier:de 2.5/s 100% 1 lane 75/s after reset"
    assert [line.strip() for line in lines[2:4]] == ["slowed to 5% of 50/s", "paused for 30 min"]
    assert lines[4].split()[:2] == ["1,234/2,000", "until"]
    assert lines[5].split() == ["provider:hook", "none"]
    found = await asyncio.to_thread(shown, limited)
    assert found["carrier:de"]["lanes"] == [lane]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("carrier:dee", "there is no limit carrier:dee; did you mean carrier:de?"),
        ("zzzz", "there is no limit zzzz; `dispatcher limits` lists them"),
        ("numbers", "numbers is one limit per sender: name one of them, numbers/VALUE"),
        ("numbers/X", "there is no limit numbers/X; `dispatcher limits` lists them"),
    ],
)
def test_an_unknown_limit(limited: Inside, name: str, words: str) -> None:
    for args in (("set", name, "5/s"), ("reset", name)):
        result = limited.run("limits", *args)
        assert (result.code, result.out, result.err) == (1, "", [f"dispatcher: {words}"])
    assert shown(limited).keys() == {"provider:hook", "carrier:de"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("5/day",), "RATE must be per s, min or h, got '5/day': quotas are configured"),
        (("5",), "RATE must be a rate above 0 such as"),
        (("0/s",), "RATE must be a rate above 0 such as"),
        (("5/s", "--for", "soon"), "--for must be a duration"),
        (("5/s", "--for", "0s"), "--for must be more than 0s"),
    ],
)
def test_what_cannot_be_set(limited: Inside, args: tuple[str, ...], words: str) -> None:
    result = limited.run("limits", "set", "carrier:de", *args)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err
    assert line.startswith(f"dispatcher: {words}")


async def test_an_absent_store(limited: Inside, commands: Commands) -> None:
    away = {"DISPATCHER__STORE__URL": "redis://127.0.0.1:9"}
    calls = [
        ("limits",),
        ("limits", "set", "carrier:de", "5/s"),
        ("explain", "+4917112345678", "--from", "X"),
    ]
    running = [commands.start(*call, env=away) for call in calls]
    for result in await asyncio.gather(*map(commands.ended, running)):
        assert result.code == 1
        (line,) = result.err
        assert line.startswith("dispatcher: store cannot be reached")


async def sent(store: Store, batch: str, at_least: int) -> None:
    async with asyncio.timeout(30):
        while True:
            view = await store.inspector.batch(batch)
            if view is not None and view.counts["sent"] >= at_least:
                return
            await asyncio.sleep(0.02)


async def test_a_new_rate_reaches_the_backlog(
    commands: Commands, inside: Inside, config_file: Callable[[str], Path], store: Store
) -> None:
    simulator = Simulator(Settings((WebhookAccount(),)))
    url = await simulator.start()
    config_file(LIMITED.format(url=f"{url}/webhook/demo", rate="1/s"))
    commands.write("rows.csv", csv_of(f"{number(i)},Ann" for i in range(MESSAGES)))
    worker = commands.start("worker")
    batch = (await inside.call("send", "rows.csv", *SEND, *HI)).batch
    await sent(store, batch, 1)
    found = await asyncio.to_thread(shown, inside)
    assert found["carrier:de"]["lanes"] == ["hook/sms/de/sender=SHOP"]
    await inside.call("limits", "set", "carrier:de", "1000/s")
    await sent(store, batch, MESSAGES)
    worker.terminate()
    assert (await commands.ended(worker)).code == 0
    await simulator.stop()
