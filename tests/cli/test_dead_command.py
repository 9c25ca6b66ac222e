"""`dead list`, `show`, `replay` and `drop`."""

from __future__ import annotations

import pytest

from dispatcher.messages import Attempt, Content, Envelope, Row, encode_body, message_id, new_ulid
from dispatcher.store.letters import Letters
from dispatcher.store.opening import Store
from tests.cli.inside import Inside
from tests.store.letter import bury

BATCH = new_ulid(0)


def body(index: int) -> bytes:
    content = Content(text="Hi {name}")
    envelope = Envelope(BATCH, "acme", "sms", "bulk", "SHOP", 1, 0, content, ("name",))
    return encode_body(envelope, [Row(index, "+4915550000001", ("Ann",), "order-7")])


@pytest.fixture
async def letters(store: Store) -> list[str]:
    """Three dead ones and one of which nobody knows."""
    names = [message_id(BATCH, index) for index in range(4)]
    tried = (Attempt(1, "hook", "30008"),)
    for index, name in enumerate(names):
        status, code = ("dead", "30008") if index < 3 else ("unknown", "timeout")
        await bury(store, name, body(index), status, code, tried, lane="hook/sms/de")
    return names


async def test_list(inside: Inside, letters: list[str]) -> None:
    found = (await inside.call("dead", "list", "--json")).found
    assert found["total"] == 4
    assert [one["message"] for one in found["letters"]] == letters[::-1]
    lines = (await inside.call("dead", "list", "--code", "unknown")).out.splitlines()
    assert lines[0].split() == ["message", "since", "code", "provider", "why"]
    assert lines[2:] == [
        "unknown: ask the provider; dispatcher dead resolve MESSAGE --outcome OUTCOME"
    ]
    assert lines[1].startswith(letters[3])
    assert "timeout (unknown)" in lines[1]
    lines = (await inside.call("dead", "list", "--limit", "2")).out.splitlines()
    assert lines[4] == "the latest 2 of 4; --limit N shows more"
    none = await inside.call("dead", "list", "--channel", "email")
    assert none.out == "none of 4 dead letters\n"


async def test_show(inside: Inside, letters: list[str]) -> None:
    found = (await inside.call("dead", "show", letters[0], "--json")).found
    assert (found["to"], found["text"], found["params"]) == (
        "+4915550000001", "Hi {name}", {"name": "Ann"},
    )  # fmt: skip
    assert (found["tenant"], found["from"], found["ref"]) == ("acme", "SHOP", "order-7")
    assert [one["code"] for one in found["attempts"]] == ["30008"]
    lines = (await inside.call("dead", "show", letters[0])).out.splitlines()
    assert [line.split() for line in lines if line.startswith("to ")] == [["to", "+4915550000001"]]
    missing = await inside.call("dead", "show", f"{BATCH}-9")
    assert missing.code == 1
    assert missing.err[0].startswith(f"dispatcher: {BATCH}-9 is not among the dead letters")


async def test_replay(inside: Inside, letters: list[str], store: Store) -> None:
    dry = await inside.call("dead", "replay", "--status", "dead", "--rate", "1/h", "--dry-run")
    assert dry.out == "3 messages would be replayed\n          3  hook  30008\n"
    assert await Letters(store.client, store.keys).count() == 4
    assert not await store.client.exists(store.keys.name("scheduled"))
    done = await inside.call("dead", "replay", "--status", "dead", "--rate", "1/h")
    assert done.out == "3 messages replayed\n          3  hook  30008\n"
    assert await store.client.zcard(store.keys.name("scheduled")) >= 2
    found = (await inside.call("status", letters[2], "--json")).found
    assert (found["status"], found["attempts_used"]) == ("scheduled", 0)
    assert [one["code"] for one in found["attempts"]] == ["30008", "replayed"]
    one = await inside.call("dead", "replay", letters[3], "--json")
    assert (one.found["messages"], one.found["dry_run"]) == (1, False)
    assert (await inside.call("dead", "list")).out == "no dead letters\n"


@pytest.mark.parametrize("verb", ["replay", "drop"])
async def test_all_must_be_meant(inside: Inside, letters: list[str], verb: str) -> None:
    bare = await inside.call("dead", verb)
    assert (bare.code, bare.err) == (
        2, ["dispatcher: say which letters: MESSAGE, an option such as --code, or --all"],
    )  # fmt: skip
    done = await inside.call("dead", verb, "--all", "--json")
    assert (done.code, done.found["messages"]) == (0, len(letters))


async def test_drop(inside: Inside, letters: list[str]) -> None:
    dry = await inside.call("dead", "drop", "--dry-run")
    assert dry.out.startswith("4 messages would be dropped\n")
    assert (await inside.call("dead", "drop", letters[0])).out.startswith("1 message dropped\n")
    assert (await inside.call("dead", "drop", "--all")).out.startswith("3 messages dropped\n")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("list", "--since", "soon"), "--since must be an RFC 3339 time"),
        (("replay", "--rate", "5/day"), "--rate must be per s, min or h"),
        (("replay", "--rate", "5"), "--rate must be a rate above 0"),
        (("list", "--provider", "hok"), "there is no provider hok; did you mean hook?"),
        (("replay", "--provider", "x"), "there is no provider x; known: hook"),
        (("drop", "--provider", "x"), "there is no provider x; known: hook"),
        (("list", "--status", "sent"), "Invalid value for '--status'"),
        (("drop", "--channel", "x"), "Invalid value for '--channel'"),
    ],
)
async def test_what_cannot_be_meant(inside: Inside, args: tuple[str, ...], words: str) -> None:
    result = await inside.call("dead", *args)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err
    assert line.startswith(f"dispatcher: {words}")
