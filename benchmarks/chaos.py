"""Chaos: what a fault costs while three workers send 2,000 messages/s on two lanes, one of which
holds messages that may have been sent while the other sends them again.

`./run bench chaos [--minutes N] [--seed S] [FAULT ...]` inflicts every fault named, or all, once
or as often as the minutes allow; each on a store, workers and a provider of its own. Three journals
are compared then: what the producer was told is accepted, what arrived, what the store says. Exit
code 1 when something was lost, sent more often than promised, faster than the limits, or left
behind; the seed and the whole story of some of the messages are printed then.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import machine
from benchmarks.chaos_faults import FAULTS, Fault
from benchmarks.chaos_rig import GRANTED_SECONDS, Site, Way, site
from benchmarks.checker import Finding, Journals, check, pace, recovery, story
from benchmarks.figures import Table, number, print_table
from dispatcher.store.opening import Store

RATE = 2000.0
SECONDS = 8.0
MEMORY_BYTES = 3_000_000
"""What a store may use more than at its start when nothing is left in it: scripts, buffers."""
STORIES = 3
HEADER = (
    "fault", "lost", "sent twice / bound, hold", "sent twice / bound, resend", "unknown (arrived)",
    "recovery p50 / max, s", "limit kept", "left over",
)  # fmt: skip


class Outcome(msgspec.Struct):
    """What one run came to. `bounds` lacks a lane where nothing is promised; `wrong` says what is
    not as it should be."""

    fault: str
    seed: int
    messages: int
    lost: int
    twice: dict[str, int]
    bounds: dict[str, int]
    unknown: int
    taken: int
    ended: int
    strays: int
    recovery_s: float
    slack_ms: float
    stall_ms: float
    left: dict[str, int]
    memory_kb: float
    wrong: list[str]


async def run(name: str, fault: Fault, seed: int, rate: float, seconds: float) -> Outcome:
    """Inflict one fault once."""
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder), fault.setting, rate) as (place, near):
            load = fault.seconds or seconds
            at, drained = await _inflict(place, near, fault, seed, rate, load)
            left = await place.leftovers()
            unclear, stall = place.sink.unclear("/resend"), place.sink.stall()
            journals = await place.journals()
            codes = await place.end_workers()
            left |= {f"after the end: {kind}": n for kind, n in (await place.leftovers()).items()}
            await place.forget()
            memory = await place.memory()
            finding = check(journals)
            outcome = _outcome(place, fault, finding, journals, unclear, stall)
            outcome.fault, outcome.seed, outcome.left = name, seed, left
            outcome.memory_kb = memory / 1000
            outcome.recovery_s = recovery(journals, at)
            outcome.wrong = [*_wrong(fault, outcome), *_wrong_ends(place, drained, codes)]
            if outcome.wrong:
                _tell(place, outcome, finding, journals)
            return outcome


async def _inflict(
    place: Site, near: Store, fault: Fault, seed: int, rate: float, seconds: float
) -> tuple[float, bool]:
    """Produce, inject at the seeded time; when that was, and whether all was sent at last."""
    dice = random.Random(seed)
    place.sink.stall()
    producing = asyncio.create_task(place.produce(seconds, near))
    try:
        await place.arrived(int(rate * dice.uniform(1, 2)))
        at = time.monotonic()
        await fault.inject(place, dice)
        await producing
        return at, await place.drained()
    finally:
        producing.cancel()
        await asyncio.gather(producing, return_exceptions=True)


def _outcome(
    place: Site, fault: Fault, found: Finding, journals: Journals, unclear: int, stall: float
) -> Outcome:
    slack = max(
        pace(journals.arrivals, way.path, way.rate, place.promised(way, stall)).slack
        for way in place.lanes
    )
    return Outcome(
        fault="",
        seed=0,
        messages=found.messages,
        lost=len(found.lost),
        twice={way.name: len(found.twice.get(way.path, ())) for way in place.lanes},
        bounds={} if fault.explained else {w.name: _bound(w, fault, unclear) for w in place.lanes},
        unknown=len(found.unknown),
        taken=len(found.taken),
        ended=len(found.ended),
        strays=len(found.strays),
        recovery_s=0.0,
        slack_ms=slack * 1000,
        stall_ms=stall * 1000,
        left={},
        memory_kb=0.0,
        wrong=[
            f"limit of {way.name} not kept: worst burst {kept.worst:.1f}, promised "
            f"{kept.promised:.1f}"
            for way in place.lanes
            if (kept := pace(journals.arrivals, way.path, way.rate, place.promised(way, stall)))
            and kept.worst > kept.promised
        ],
    )


def _bound(way: Way, fault: Fault, unclear: int) -> int:
    """How many messages may be sent twice."""
    if way.name == "hold":
        return 0
    return round(fault.killed * way.rate * GRANTED_SECONDS) + unclear


def _wrong(fault: Fault, outcome: Outcome) -> list[str]:
    wrong = list(outcome.wrong)
    if outcome.lost and not fault.explained:
        wrong.append(f"{outcome.lost} lost")
    for way, bound in outcome.bounds.items():
        if outcome.twice[way] > bound:
            wrong.append(f"{outcome.twice[way]} of {way} sent twice, at most {bound} may be")
    if outcome.ended or outcome.strays:
        wrong.append(f"{outcome.ended} dead, {outcome.strays} nobody accepted")
    if fault.within is not None and outcome.recovery_s > fault.within:
        wrong.append(f"recovered after {outcome.recovery_s:.1f} s, asked {fault.within:g} s")
    if outcome.left:
        wrong.append(f"left over: {outcome.left}")
    if outcome.memory_kb * 1000 > MEMORY_BYTES + START_BYTES:
        wrong.append(f"the store still uses {outcome.memory_kb:,.0f} kB")
    return wrong


START_BYTES = 1_500_000
"""About what an empty server uses."""


def _wrong_ends(place: Site, drained: bool, codes: Sequence[int]) -> list[str]:
    wrong = place.wrong if drained else [*place.wrong, "messages still wait"]
    if any(codes):
        wrong.append(f"workers ended with {codes}")
    traces = place.log.read_text().count("Traceback")
    if traces:
        wrong.append(f"{traces} tracebacks in the log of the workers")
    return wrong


def _tell(place: Site, outcome: Outcome, finding: Finding, journals: Journals) -> None:
    """Print what is needed to understand and to repeat a failure."""
    print(f"\n{outcome.fault}, seed {outcome.seed}: {'; '.join(outcome.wrong)}")
    twice = [to for path in finding.twice.values() for to in path]
    over = sum(outcome.twice.values()) > sum(outcome.bounds.values())
    suspects = [*finding.lost, *finding.ended, *finding.strays, *(twice if over else ())]
    for to in dict.fromkeys(suspects[:STORIES]):
        print("\n".join(story(journals, to, place.began)))
    for line in place.log.read_text().splitlines()[-20:]:
        print(f"  {line[:300]}")
    sys.stdout.flush()


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row per fault, over all its runs."""
    names = dict.fromkeys(outcome.fault for outcome in outcomes)
    return Table(HEADER, [_row(n, [o for o in outcomes if o.fault == n]) for n in names])


def _row(name: str, runs: Sequence[Outcome]) -> tuple[str, ...]:
    times = [run.recovery_s for run in runs]
    kept = not any("limit of" in reason for run in runs for reason in run.wrong)
    return (
        FAULTS[name].what,
        f"{sum(run.lost for run in runs):,}{' (explained)' if FAULTS[name].explained else ''}",
        _twice(runs, "hold"),
        _twice(runs, "resend"),
        _unknown(max(runs, key=lambda run: run.unknown)),
        f"{number(statistics.median(times))} / {number(max(times))}",
        "yes" if kept else "no",
        str(sum(sum(run.left.values()) for run in runs)),
    )


def _unknown(run: Outcome) -> str:
    return f"{run.unknown:,} ({run.taken:,})" if run.unknown else "0"


def _twice(runs: Sequence[Outcome], way: str) -> str:
    worst = max(run.twice[way] for run in runs)
    bounds = [run.bounds[way] for run in runs if way in run.bounds]
    return f"{worst:,} / {max(bounds):,}" if bounds else f"{worst:,} / –"


def tables() -> dict[str, Table]:
    """What the page says, by the name of its place."""
    kept = machine.saved("chaos").get("chaos")
    return {} if kept is None else {"chaos": table(msgspec.convert(kept["runs"], list[Outcome]))}


async def _all(options: argparse.Namespace) -> list[Outcome]:
    ends, outcomes, round_ = time.monotonic() + options.minutes * 60, list[Outcome](), 0
    while not round_ or time.monotonic() < ends:
        for name in options.faults or FAULTS:
            if missing := FAULTS[name].missing():
                print(f"{name}: skipped, {missing}", flush=True)
                continue
            if round_ and time.monotonic() > ends:
                break
            seed = options.seed + round_
            found = await run(name, FAULTS[name], seed, options.rate, options.seconds)
            print(f"{name}: {'; '.join(found.wrong) or 'as promised'}", flush=True)
            outcomes.append(found)
        round_ += 1
    return outcomes


def main(args: list[str]) -> int:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="./run bench chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for so long")
    parser.add_argument("--seed", type=int, default=1, help="of the first run of each fault")
    parser.add_argument("--rate", type=float, default=RATE, help="messages per second")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of messages in a run")
    options = parser.parse_args(args)
    for name in options.faults:
        if name not in FAULTS:
            parser.error(f"no fault {name!r} (known: {', '.join(FAULTS)})")
    outcomes = asyncio.run(_all(options))
    print_table("chaos", table(outcomes))
    conditions: dict[str, Any] = machine.describe({})
    asked = {"seed": options.seed, "rate": options.rate, "seconds": options.seconds}
    found = [msgspec.to_builtins(outcome) for outcome in outcomes]
    machine.save("chaos", {"options": asked, "conditions": conditions, "runs": found})
    return 1 if any(outcome.wrong for outcome in outcomes) else 0
