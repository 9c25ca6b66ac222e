"""`dead resolve`: an operator says what became of messages of which nobody knew."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from dispatcher.cli.outcome_lines import LINE_BYTES, read_lines
from dispatcher.messages import Status, new_ulid
from dispatcher.store.opening import Store
from tests.cli.command import Commands, Result
from tests.cli.inside import Inside
from tests.store.cell import Cell
from tests.store.letter import settled

LANE = "hook/sms/de"
UNKNOWN, SENT, DEAD = Status.UNKNOWN, Status.SENT, Status.DEAD


@pytest.fixture
async def cell(store: Store) -> Cell:
    cell = Cell(store)
    await cell.limit("provider:hook")
    await cell.worker("w1")
    return cell


class Batch:
    """Messages with these statuses, and the command for some of them."""

    def __init__(self, inside: Inside, cell: Cell) -> None:
        self.inside, self.cell = inside, cell

    def id(self, index: int) -> str:
        return f"{self.cell.batch}-{index}"

    async def resolve(self, *args: object) -> Result:
        """Numbers stand for messages."""
        words = [self.id(arg) if isinstance(arg, int) else str(arg) for arg in args]
        return await self.inside.call("dead", "resolve", *words)

    async def counts(self) -> dict[str, int]:
        view = await self.cell.store.inspector.batch(self.cell.batch)
        assert view is not None
        return {word: count for word, count in view.counts.items() if count}

    async def listed(self) -> dict[str, str]:
        """Message → status of its letter."""
        found = (await self.inside.call("dead", "list", "--json")).found["letters"]
        return {one["message"]: one["status"] for one in found}


@pytest.fixture
async def batch(inside: Inside, cell: Cell) -> Batch:
    """Five unknown ones, one that was sent and one that is dead."""
    await settled(cell, [*[UNKNOWN] * 5, SENT, DEAD], LANE)
    return Batch(inside, cell)


async def test_one_is_told(batch: Batch, inside: Inside) -> None:
    done = await batch.resolve(0, "--outcome", "delivered", "--reason", "the  console")
    assert (done.code, done.err) == (0, [])
    assert done.out == "1 message resolved: 1 delivered\n          1  hook  timeout\n"
    assert await batch.counts() == {"unknown": 4, "delivered": 1, "sent": 1, "dead": 1}
    assert batch.id(0) not in await batch.listed()

    story = (await inside.call("status", batch.id(0), "--json")).found
    assert (story["status"], story["error"]) == ("delivered", None)
    (line,) = story["attempts"]
    assert (line["code"], line["by"].partition("@")[2]) == ("resolved", os.uname().nodename)
    assert line["at"] == story["updated_at"]
    shown = (await inside.call("status", batch.id(0))).out
    assert f"{line['at']}  hook  resolved  {line['by']}" in shown

    (action,) = (await inside.call("audit", "--json")).found
    assert (action["who"], action["what"], action["on"]) == (
        line["by"],
        "dead resolve",
        batch.id(0),
    )
    assert (action["detail"], action["reason"], action["affected"]) == (
        "as delivered", "the console", 1,
    )  # fmt: skip


async def test_the_same_twice_does_no_harm(batch: Batch, inside: Inside) -> None:
    for index in (0, 1):
        await batch.resolve(index, "--outcome", "sent")
    again = await batch.resolve(0, 1, 2, "--outcome", "sent")
    assert again.code == 0
    assert again.out.splitlines()[0] == "1 message resolved: 1 sent; 2 had been before"
    assert await batch.counts() == {"unknown": 2, "sent": 4, "dead": 1}
    found = (await inside.call("audit", "--json")).found
    assert [one["affected"] for one in found] == [1, 1, 1]


async def test_what_is_known_is_named_and_left_alone(batch: Batch, store: Store) -> None:
    before = await batch.counts()
    other = f"{new_ulid(7)}-0"
    done = await batch.resolve(5, 6, other, 99, "--outcome", "delivered")
    assert (done.code, done.out) == (1, "")
    assert done.err == [
        f"dispatcher: {batch.id(5)} is sent, not unknown",
        f"dispatcher: {batch.id(6)} is dead, not unknown",
        f"dispatcher: {other} is not known in this store",
        f"dispatcher: {batch.id(99)} is not known in this store",
    ]
    assert await batch.counts() == before
    same = await batch.resolve(5, "--outcome", "sent")
    assert (same.code, same.err) == (1, [f"dispatcher: {batch.id(5)} is sent, not unknown"])
    some = await batch.resolve(5, 4, "--outcome", "sent", "--json")
    assert (some.code, some.err) == (1, [f"dispatcher: {batch.id(5)} is sent, not unknown"])
    assert some.found == {
        "messages": 1,
        "dry_run": False,
        "by": [{"provider": "hook", "code": "timeout", "messages": 1}],
        "left": {"sent, not unknown": 1},
        "refused": [{"message": batch.id(5), "detail": f"{batch.id(5)} is sent, not unknown"}],
        "outcomes": {"sent": 1},
        "already": 0,
    }
    assert await store.inspector.actions() != []


async def test_a_selection(batch: Batch, inside: Inside) -> None:
    bare = await batch.resolve("--outcome", "sent")
    assert (bare.code, bare.err) == (
        2, ["dispatcher: say which letters: MESSAGE, an option such as --code, or --all"],
    )  # fmt: skip
    dry = await batch.resolve("--outcome", "sent", "--dry-run")
    assert dry.out.splitlines()[0] == "5 messages would be resolved: 5 sent"
    none = await batch.resolve("--outcome", "sent", "--code", "30008")
    assert (none.code, none.out) == (0, "0 messages resolved\n")
    unfit = await batch.resolve(0, "--outcome", "sent", "--channel", "email")
    assert (unfit.code, unfit.err) == (
        1, [f"dispatcher: {batch.id(0)} is none of channel email"],
    )  # fmt: skip
    assert (await batch.counts())["unknown"] == 5
    assert (await inside.call("audit", "--json")).found == []
    done = await batch.resolve("--outcome", "undelivered", "--provider", "hook", "--since", "1h")
    assert done.out.splitlines()[0] == "5 messages resolved: 5 undelivered"
    assert await batch.counts() == {"undelivered": 5, "sent": 1, "dead": 1}
    assert await batch.listed() == {batch.id(6): "dead"}


async def test_what_was_never_sent_may_be_sent_again(batch: Batch, inside: Inside) -> None:
    done = await batch.resolve("--all", "--outcome", "dead")
    assert done.out.splitlines()[0] == "5 messages resolved: 5 dead"
    assert set((await batch.listed()).values()) == {"dead"}
    story = (await inside.call("dead", "show", batch.id(1), "--json")).found
    assert [one["code"] for one in story["attempts"]] == ["resolved"]
    assert (await batch.resolve("--all", "--outcome", "dead")).out == "0 messages resolved\n"
    replayed = await inside.call("dead", "replay", batch.id(1))
    assert (replayed.code, replayed.out.splitlines()[0]) == (0, "1 message replayed")
    assert await batch.counts() == {"queued": 1, "sent": 1, "dead": 5}
    story = (await inside.call("status", batch.id(1), "--json")).found
    assert [(one["code"], "by" in one) for one in story["attempts"]] == [
        ("resolved", True), ("replayed", True),
    ]  # fmt: skip


async def test_one_whose_letter_was_dropped(batch: Batch, inside: Inside) -> None:
    await inside.call("dead", "drop", batch.id(0))
    assert (await batch.counts())["unknown"] == 5
    done = await batch.resolve(0, "--outcome", "delivered")
    assert done.out == "1 message resolved: 1 delivered\n          1  hook  timeout\n"
    assert (await batch.counts())["unknown"] == 4


async def test_a_file(batch: Batch, tmp_path: Path, inside: Inside) -> None:
    lines = [
        "id,outcome",
        f"{batch.id(0)},delivered",
        "",
        f'"{batch.id(1)}", READ ',
        batch.id(2),
        f"{batch.id(3)},arrived",
        f"{batch.id(5)},delivered",
        "SM0123456789,sent",
        f"{batch.id(4)},sent,3",
        "x" * (3 * LINE_BYTES),
        f"{batch.id(4)},undelivered",
    ]
    (tmp_path / "told.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    allowed = "sent, delivered, read, undelivered, dead"
    wrong = [
        f"line 6: the outcome must be one of {allowed}, got 'arrived'",
        "line 8: 'SM0123456789' is not a message id (<batch>-<index>)",
        "line 9: 3 columns, expected id or id,outcome",
        "line 10: the line is longer than 1,000 bytes",
        f"line 7: {batch.id(5)} is sent, not unknown",
    ]
    missing = "line 5: no outcome on the line, and --outcome is not given"
    dry = await batch.resolve("--file", tmp_path / "told.csv", "--dry-run")
    assert (dry.code, sorted(dry.err)) == (1, sorted([*wrong, missing]))
    assert dry.out.splitlines()[0] == (
        "3 messages would be resolved: 1 delivered, 1 read, 1 undelivered"
    )
    assert (await batch.counts())["unknown"] == 5
    done = await batch.resolve("--file", tmp_path / "told.csv", "--outcome", "sent", "--json")
    assert (done.code, sorted(done.err)) == (1, sorted(wrong))
    assert done.found["outcomes"] == {"delivered": 1, "read": 1, "sent": 1, "undelivered": 1}
    assert done.found["left"] == {"not understood": 4, "sent, not unknown": 1}
    assert await batch.counts() == {
        "unknown": 1, "sent": 2, "delivered": 1, "read": 1, "undelivered": 1, "dead": 1,
    }  # fmt: skip
    (action,) = (await inside.call("audit", "--json")).found
    assert (action["on"], action["affected"]) == (f"file {tmp_path / 'told.csv'}", 4)


async def test_a_long_file_is_told_page_by_page(inside: Inside, cell: Cell, tmp_path: Path) -> None:
    await settled(cell, [UNKNOWN] * 450, LANE)
    batch = Batch(inside, cell)
    (tmp_path / "ids").write_text("".join(f"{batch.id(index)}\n" for index in range(450)))
    for again in (False, True):
        done = await batch.resolve("--file", tmp_path / "ids", "--outcome", "delivered")
        assert done.code == 0
        assert done.out.splitlines()[0] == (
            "0 messages resolved; 450 had been before"
            if again
            else "450 messages resolved: 450 delivered"
        )
        assert await batch.counts() == {"delivered": 450}


@pytest.mark.parametrize(("outcome", "left"), [("delivered", 0), ("dead", 450)])
async def test_a_long_selection_is_told_page_by_page(
    inside: Inside, cell: Cell, outcome: str, left: int
) -> None:
    await settled(cell, [UNKNOWN] * 450, LANE)
    batch = Batch(inside, cell)
    done = await batch.resolve("--code", "unknown", "--outcome", outcome, "--json")
    assert (done.code, done.found["messages"]) == (0, 450)
    assert await batch.counts() == {outcome: 450}
    assert await cell.client.zcard(cell.keys.name("dead")) == left


async def test_standard_input(batch: Batch, commands: Commands) -> None:
    args = ("dead", "resolve", "--file", "-", "--outcome", "sent")
    done = commands.run(*args, stdin=f"{batch.id(0)}\n".encode())
    assert (done.code, done.out.splitlines()[0]) == (0, "1 message resolved: 1 sent")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_a_file_that_fails_while_it_is_read(inside: Inside) -> None:
    result = inside.run("dead", "resolve", "--file", "/proc/self/mem", "--outcome", "sent")
    assert (result.code, result.out) == (1, "")
    assert result.err == ["dispatcher: /proc/self/mem cannot be read: Input/output error"]


def test_a_file_without_end_is_read_in_small_pieces() -> None:
    asked: list[int] = []

    class Endless(io.BytesIO):
        def readline(self, size: int | None = -1) -> bytes:
            asked.append(size or -1)
            return b"x" * 5 + b"\n" if len(asked) % 9 == 0 else b"x" * asked[-1]

    lines = read_lines(Endless(), "sent")
    assert [next(lines).number for _ in range(4)] == [1, 2, 3, 4]
    assert set(asked) == {LINE_BYTES + 1}
    assert len(asked) == 36


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--all",), "--outcome is missing: one of sent, delivered, read, undelivered, dead"),
        (("--all", "--outcome", "queued"), "Invalid value for '--outcome': 'queued' is not one of"),
        (("x", "--outcome", "sent"), "'x' is not a message id (<batch>-<index>)"),
        (("--status", "dead", "--outcome", "sent"), "No such option '--status'"),
        (("--since", "soon", "--outcome", "sent"), "--since must be an RFC 3339 time"),
        (("--provider", "hok", "--outcome", "sent"), "there is no provider hok; did you mean"),
        (("--file", "no.csv"), "no.csv: No such file or directory"),
        (("--file", "empty", "--outcome", "sent"), "--file empty names no message"),
        (("--all", "--outcome", "sent", "--reason", " "), "--reason must say why"),
        (("--file", "empty", "--all"), "--file stands alone: no MESSAGE, --all or other selection"),
        (("--file", "empty", "--code", "1"), "--file stands alone"),
    ],
)
async def test_what_cannot_be_meant(
    inside: Inside, tmp_path: Path, args: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty").write_text("id,outcome\n\n")
    result = await inside.call("dead", "resolve", *args)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err
    assert line.startswith(f"dispatcher: {words}")


@pytest.mark.parametrize("verb", ["replay", "drop"])
async def test_other_verbs_name_an_id_without_a_letter(
    inside: Inside, batch: Batch, verb: str
) -> None:
    missing = await inside.call("dead", verb, batch.id(5))
    assert (missing.code, missing.out) == (1, "")
    assert missing.err == [f"dispatcher: {batch.id(5)} is not among the dead letters"]
    some = await inside.call("dead", verb, batch.id(5), batch.id(6))
    assert (some.code, len(some.err)) == (1, 1)
    assert some.out.splitlines()[0] in ("1 message replayed", "1 message dropped")
    bad = await inside.call("dead", verb, "x")
    assert (bad.code, bad.err) == (2, ["dispatcher: 'x' is not a message id (<batch>-<index>)"])


def test_show_names_an_id_that_is_none(inside: Inside) -> None:
    result = inside.run("dead", "show", "x")
    assert (result.code, result.err) == (
        2,
        ["dispatcher: 'x' is not a message id (<batch>-<index>)"],
    )
