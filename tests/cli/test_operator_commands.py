"""`lanes`, `suspend`, `resume`, `cancel`, `move`, `audit` and completion, as people use them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.store.opening import Store
from tests.cli.command import HI, Commands, csv_of, killed, number
from tests.cli.inside import Inside

OLD = '[providers.old]\nkind = "webhook"\nurl = "http://127.0.0.1:9/old"\n'
HOOK = '[providers.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/hook"\n'
LANE = "hook/sms/de"
BATCH = "01JD4Z3C7V9M2N8Q5R6S7T8V9W"


@pytest.fixture
def waiting(commands: Commands, inside: Inside) -> Inside:
    """Three messages that wait, and no worker."""
    commands.write("rows.csv", csv_of(f"{number(i)},Ann" for i in range(3)))
    assert inside.send("rows.csv", *HI).code == 0
    return inside


def test_what_waits_is_shown(waiting: Inside) -> None:
    (lane,) = waiting.run("lanes", "--json").found["lanes"]
    assert (lane["lane"], lane["waiting"], lane["depth"]["bulk"]) == (LANE, 3, 3)
    assert (lane["suspended"], lane["orphaned"], lane["waiting_for"]) == (False, False, None)
    lines = waiting.run("lanes", "hook/*").out.splitlines()
    assert lines[0].split() == ["lane", "urgent", "normal", "bulk", "sent", "held", "by"]
    assert lines[1].split() == [LANE, "3", "0"]
    assert lines[2:] == ["3 messages in 1 lane"]
    assert waiting.run("lanes", "hook/sms/us").out == "0 messages in 0 lanes\n"


def test_suspend_and_resume(waiting: Inside) -> None:
    done = waiting.run("suspend", "hook/sms/d*", "--reason", "wrong  text", "--for", "30m")
    assert (done.code, done.err) == (0, [])
    assert re.fullmatch(r"hook/sms/d\*: suspended until .{12}Z, 1 lane\n", done.out)
    (lane,) = waiting.run("lanes", "--json").found["lanes"]
    assert (lane["suspended"], lane["reason"]) == (True, "wrong text")
    lines = waiting.run("lanes").out.splitlines()
    assert re.search(r"3 +0 +suspended until ", lines[1])
    assert re.fullmatch(r"suspended until .{12}Z: hook/sms/d\* \(wrong text\)", lines[3])
    assert waiting.run("resume", LANE).out == f"{LANE}: resumed, 1 lane\n"
    again = waiting.run("resume", LANE)
    assert (again.code, again.out) == (1, "")
    assert again.err == [f"dispatcher: {LANE} is not suspended; suspended: hook/sms/d*"]
    found = waiting.run("resume", "hook", "--json").found
    assert found == {"lane": "hook", "lanes": [LANE]}
    again = waiting.run("resume", "hook")
    assert again.err == ["dispatcher: hook is not suspended; no lane is suspended"]


def test_a_lane_that_comes_later(waiting: Inside, commands: Commands) -> None:
    done = waiting.run("suspend", "hook/sms/us", "--reason", "r", "--for", "forever", "--json")
    assert done.found == {"lane": "hook/sms/us", "until": None, "reason": "r", "lanes": []}
    assert waiting.run("suspend", "hook/sms/us", "--reason", "r", "--for", "forever").out == (
        "hook/sms/us: suspended until resumed, no lane of it holds messages now\n"
    )
    commands.write("us.csv", csv_of(["+12025550123,Ann"]))
    waiting.send("us.csv", *HI)
    lanes = {lane["lane"]: lane for lane in waiting.run("lanes", "--json").found["lanes"]}
    assert lanes["hook/sms/us"]["waiting_for"] == "suspended: r"
    assert lanes["hook/sms/us"]["suspended_until"] is None
    assert lanes[LANE]["waiting_for"] is None


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("suspend", LANE), "Missing option '--reason'"),
        (("suspend", LANE, "--reason", " "), "--reason must say why"),
        (("suspend", LANE, "--reason", "r", "--for", "soon"), "--for must be a duration"),
        (("suspend", LANE, "--reason", "r", "--for", "0s"), "--for must be more than 0s"),
        (("suspend", "hok/sms/de", "--reason", "r"), "there is no provider hok; did you mean"),
        (("suspend", "a b", "--reason", "r"), "LANE must be provider/channel/carrier"),
        (("resume", ""), "LANE must be provider/channel/carrier"),
        (("cancel", "x"), "'x' is not a batch id"),
        (("lanes", "hok"), "there is no provider hok; did you mean hook?"),
        (("lanes", "x/sms/*"), "there is no provider x; known: hook"),
        (("move", "hok/*", "--to", "hook"), "there is no provider hok; did you mean hook?"),
        (("move", LANE, "--to", "x"), "there is no provider x; configured: hook"),
        (("move", LANE), "Missing option '--to'"),
        (("completion", "tcsh"), "Invalid value for"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(inside: Inside, args: tuple[str, ...], words: str) -> None:
    result = inside.run(*args)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err
    assert line.startswith(f"dispatcher: {words}")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("cancel", BATCH), f"batch {BATCH} is not known in this store"),
        (("status", BATCH), f"{BATCH} is not known in this store"),
        (("status", f"{BATCH}-0"), f"{BATCH}-0 is not known in this store"),
        (("dead", "show", f"{BATCH}-0"), f"{BATCH}-0 is not among the dead letters"),
        (("dead", "replay", f"{BATCH}-0"), f"{BATCH}-0 is not among the dead letters"),
        (("dead", "drop", f"{BATCH}-0"), f"{BATCH}-0 is not among the dead letters"),
        (("dead", "resolve", f"{BATCH}-0", "--outcome", "sent"), f"{BATCH}-0 is not known in"),
        (("resume", LANE), f"{LANE} is not suspended"),
        (("limits", "reset", "x"), "there is no limit x"),
    ],
)
def test_what_is_not_there(inside: Inside, args: tuple[str, ...], words: str) -> None:
    result = inside.run(*args)
    assert (result.code, result.out) == (1, "")
    (line,) = result.err
    assert line.startswith(f"dispatcher: {words}")


def test_cancel(waiting: Inside) -> None:
    batch = waiting.send("rows.csv", *HI).batch
    done = waiting.run("cancel", batch)
    assert (done.code, done.out) == (0, f"{batch}: cancelled, 3 messages of 3 not sent\n")
    assert waiting.run("cancel", batch, "--json").found["cancel"] is True


async def test_a_killed_move_is_carried_on(
    commands: Commands, inside: Inside, config_file: Callable[[str], Path], store: Store
) -> None:
    many = 30_000
    config_file(OLD)
    commands.write("rows.csv", csv_of(f"{number(i)},Ann" for i in range(many)))
    await inside.call("send", "rows.csv", "--channel", "sms", "--from", "SHOP", *HI)
    config_file(HOOK)
    lines = (await inside.call("lanes")).out.splitlines()
    assert lines[1].split() == ["old/sms/de", f"{many:,}", "0", "orphaned"]
    assert lines[3] == "orphaned: no worker serves it; dispatcher move LANE --to PROVIDER"
    moving = commands.start("move", "old/*", "--to", "hook")
    async with asyncio.timeout(30):
        while not (moved := await depth(store, LANE)):
            pass
    killed(moving)
    moved = await depth(store, LANE)
    assert 0 < moved < many
    assert moved + await depth(store, "old/sms/de") == many
    rest = await inside.call("move", "old/*", "--to", "hook", "--json")
    assert (rest.code, rest.found["messages"]) == (0, many - moved)
    assert await depth(store, LANE) == many
    assert (await inside.call("move", "old/*", "--to", "hook")).out == "0 messages moved\n"
    found = (await inside.call("audit", "--json")).found
    assert sum(action["affected"] for action in found) == many


async def depth(store: Store, lane: str) -> int:
    (view,) = await store.inspector.lanes([lane])
    return view.waiting


def test_audit(waiting: Inside) -> None:
    assert waiting.run("audit").out == "no operator has done anything yet\n"
    waiting.run("limits", "set", "provider:hook", "5/s", "--for", "1h")
    waiting.run("limits", "reset", "provider:hook")
    waiting.run("suspend", LANE, "--reason", "wrong text")
    batch = waiting.send("rows.csv", *HI).batch
    waiting.run("cancel", batch)
    found = waiting.run("audit", "--json").found
    assert [(one["what"], one["on"], one["detail"], one["affected"]) for one in found] == [
        ("cancel", batch, "", 3),
        ("suspend", LANE, "for 1h", 1),
        ("limits reset", "provider:hook", "", 1),
        ("limits set", "provider:hook", "5/s for 1h", 1),
    ]
    assert {one["who"].partition("@")[2] for one in found} == {os.uname().nodename}
    assert found[1]["reason"] == "wrong text"
    lines = waiting.run("audit", "--limit", "2").out.splitlines()
    assert lines[0].split() == ["when", "who", "what", "why", "count"]
    assert len(lines) == 3
    assert re.search(rf"suspend {LANE} for 1h +wrong text +1$", lines[2])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("dispatcher susp", {"suspend"}),
        ("dispatcher suspend hook/", {LANE}),
        ("dispatcher lanes other", set()),
        ("dispatcher statsu ho", set()),
        ("dispatcher limits reset prov", {"provider:hook"}),
    ],
)
def test_completion_knows_commands_and_names(
    waiting: Inside, commands: Commands, words: str, found: set[str]
) -> None:
    waiting.run("limits", "set", "provider:hook", "5/s")
    env = {
        "_DISPATCHER_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = commands.run(env=env)
    assert {line.removeprefix("plain,") for line in result.out.split()} == found
    assert result.err == []


def test_completion_without_a_store_is_silent(commands: Commands) -> None:
    env = {
        "_DISPATCHER_COMPLETE": "bash_complete",
        "COMP_WORDS": "dispatcher suspend ho",
        "COMP_CWORD": "2",
        "DISPATCHER__STORE__URL": "redis://127.0.0.1:9",
    }
    result = commands.run(env=env)
    assert (result.out.strip(), result.err) == ("", [])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(inside: Inside, shell: str) -> None:
    result = inside.run("completion", shell)
    assert result.code == 0
    assert "_DISPATCHER_COMPLETE" in result.out
