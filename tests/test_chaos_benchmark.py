"""The chaos benchmark sees what it is there to see: a run that is as promised, a message that is
dropped on purpose, one that is sent twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from benchmarks import chaos, chaos_rig, chaos_run, machine
from benchmarks.chaos_faults import FAULTS, Fault
from benchmarks.chaos_rig import Site
from benchmarks.chaos_run import Load, run

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
    await client.xadd(queue, fields)


@pytest.fixture
def inflict(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[chaos_run.Outcome]]:
    monkeypatch.setattr(chaos_rig, "DRAIN_SECONDS", 2.0)
    monkeypatch.setattr(chaos_rig, "NOTICE_SECONDS", 0.2)
    monkeypatch.setattr(chaos_rig, "WORKERS", 1)

    async def once(inject: Callable[[Site, Random], Awaitable[None]]) -> chaos_run.Outcome:
        monkeypatch.setitem(FAULTS, "on-purpose", Fault("on purpose", inject))
        outcome, _ = await run("on-purpose", 7, SMALL)
        return outcome

    return once


async def test_a_message_dropped_on_purpose(
    inflict: Callable[..., Awaitable[chaos_run.Outcome]], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = await inflict(drop)
    assert outcome.lost > 0
    assert f"{outcome.lost} lost, 0 forgotten" in outcome.wrong
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
    assert "scripts: as promised" in capsys.readouterr().out
    (row,) = chaos.tables()["chaos"].rows
    assert row[:5] == (FAULTS["scripts"].what, "0", "0 / 0", "0 / 0", "0")
    assert row[6:] == ("yes", "0")


def test_an_unknown_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        chaos.main(["plague"])
    assert ended.value.code == 2
    assert "no fault 'plague' (known: kill," in capsys.readouterr().err


def test_every_fault_comes_again_while_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0, 70.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert list(chaos._turns(["a", "b"], 5, 1.0)) == [("a", 5), ("b", 5), ("a", 6), ("b", 6)]
