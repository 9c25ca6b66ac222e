"""The chaos benchmark sees what it is there to see: a run that is as promised, a message that is
dropped on purpose, one that is sent twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from benchmarks import chaos, chaos_rig, chaos_run, machine
from benchmarks.chaos_faults import FAULTS, Fault
from benchmarks.chaos_rig import Site
from benchmarks.chaos_run import Load, Outcome, run, schedule
from benchmarks.checker import Expected, Journals, check
from dispatcher.store.embedded import find_server

SMALL = Load(rate=1000, seconds=2)


async def first_waiting(site: Site) -> tuple[Redis, bytes, bytes, dict[bytes, bytes]]:
    """The client of the store, and the last entry of a queue that nobody has read."""
    client = site.store.client
    async for queue in client.scan_iter(site.store.keys.name("queue", "*"), 1000):
        ((entry, fields),) = await client.xrevrange(queue, count=1)
        return client, queue, entry, fields
    raise AssertionError("nothing waits")


async def drop(site: Site, random: Random) -> None:
    client, queue, entry, _ = await first_waiting(site)
    await client.xdel(queue, entry)


async def double(site: Site, random: Random) -> None:
    client, queue, _, fields = await first_waiting(site)
    lane, class_, _ = queue.decode().partition("}:")[2].rsplit(":", 2)
    await client.xadd(queue, fields)
    # Its lane is served for the copy too, if nothing else waits.
    depth = site.store.keys.name("lane", lane)
    await client.hincrby(depth, f"depth:{class_}", int(fields[b"n"]))


@pytest.fixture
def inflict(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[chaos_run.Outcome]]:
    monkeypatch.setattr(chaos_rig, "DRAIN_SECONDS", 2.0)
    monkeypatch.setattr(chaos_rig, "NOTICE_SECONDS", 0.2)
    monkeypatch.setattr(chaos_rig, "WORKERS", 1)

    async def once(inject: Callable[[Site, Random], Awaitable[None]]) -> chaos_run.Outcome:
        monkeypatch.setitem(FAULTS, "on-purpose", Fault("on purpose", inject))
        outcome, _ = await run("on-purpose", 7, SMALL, find_server())
        return outcome

    return once


async def test_a_message_dropped_on_purpose(
    inflict: Callable[..., Awaitable[chaos_run.Outcome]], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = await inflict(drop)
    assert outcome.lost > 0
    assert f"{outcome.lost} lost, 0 forgotten, {outcome.lost} of them unexplained" in outcome.wrong
    printed = capsys.readouterr().out
    assert "on-purpose, seed 7: " in printed
    assert "never settled in the store" in printed


async def test_messages_doubled_on_purpose(
    inflict: Callable[..., Awaitable[chaos_run.Outcome]], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = await inflict(double)
    assert (outcome.lost, sum(outcome.twice.values()) > 0) == (0, True)
    assert any("sent twice, at most 0 may be" in reason for reason in outcome.wrong)
    assert capsys.readouterr().out.count("taken by the provider") >= 2


def test_a_run_that_is_as_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    assert chaos.main(["scripts", "--rate", "1000", "--seconds", "2"]) == 0
    after, _ = schedule(1, 1000)
    said = f"scripts, seed 1, after {after:,} messages: as promised"
    assert said in capsys.readouterr().out
    (row,) = chaos.tables()["chaos"].rows
    assert row[:6] == (FAULTS["scripts"].what, "1", "0", "0 / 0", "0 / 0", "0")
    assert row[7:] == ("yes", "0")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["plague"], "no fault 'plague' (known: kill,"),
        (["--server", "cat"], "--server: cat is neither a Redis nor a Valkey server"),
        (["--server", "no-such-server"], "--server: no-such-server: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_refused(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        chaos.main(words)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


def test_a_seed_decides_when_and_what() -> None:
    (after, dice), (again, same), (other, _) = (schedule(seed, 2000) for seed in (3, 3, 4))
    assert after == again != other
    assert [dice.random() for _ in range(9)] == [same.random() for _ in range(9)]


@pytest.mark.parametrize(
    ("name", "unexplained"),
    [
        ("sentinel-behind", ["early", "late"]),
        ("cluster-confirmed", ["early", "unheard", "at once", "late"]),
        ("flush", ["late"]),
        ("kill", ["early", "unheard", "at once", "late"]),
    ],
)
def test_what_a_fault_may_take_along(name: str, unexplained: list[str]) -> None:
    accepted = {"early": 9.0, "unheard": 9.8, "at once": 10.1, "late": 11.0}
    expected = {to: Expected(word, "/hold", at) for to, (word, at) in enumerate(accepted.items())}
    journals = Journals(expected, [], {})
    place = SimpleNamespace(struck=10.0, behind=0.3)
    seen = SimpleNamespace(journals=journals, finding=check(journals))
    missing = chaos_run._unexplained(place, FAULTS[name], seen)  # type: ignore[arg-type]
    assert [expected[to].id for to in missing] == unexplained


def found(name: str, **words: Any) -> Outcome:
    """A run that is as promised but for some words."""
    usual = dict(
        fault=name, seed=1, messages=9, lost=0, forgotten=0, twice={"hold": 0, "resend": 2},
        bounds={"hold": 0, "resend": 4}, unknown=0, taken=0, ended=0, strays=0, recovery_s=1.0,
        kept=True, slack_ms=9.0, stall_ms=1.0, left={}, memory_kb=3.0,
    )  # fmt: skip
    return Outcome(**(usual | words))


def test_a_row_is_over_all_runs_of_its_fault() -> None:
    worse = {"twice": {"hold": 1, "resend": 3}, "bounds": {"hold": 0, "resend": 8}}
    (row,) = chaos.table(
        [
            found("kill"),
            found("kill", recovery_s=2.0, unknown=5, taken=2, kept=False),
            found("kill", recovery_s=4.0, left={"held": 3}, **worse),
        ]
    ).rows
    runs, times = ("3", "0", "1 / 0", "2 / 4"), "2.00 / 4.00"
    assert row == (FAULTS["kill"].what, *runs, "5 (2)", times, "no", "3")


@pytest.mark.parametrize(("unexplained", "shown"), [(0, "7 (explained)"), (1, "7")])
def test_what_a_fault_takes_along_is_explained(unexplained: int, shown: str) -> None:
    (row,) = chaos.table([found("flush", lost=7, unexplained=unexplained)]).rows
    assert row[2] == shown


def test_every_fault_comes_again_while_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0, 70.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert list(chaos._turns(["a", "b"], 5, 1.0)) == [("a", 5), ("b", 5), ("a", 6), ("b", 6)]
