"""Chaos: what a fault costs while three workers send 2,000 messages/s on two lanes, one of which
holds messages that may have been sent while the other sends them again.

`./run bench chaos [--minutes N] [--seed S] [FAULT ...]` inflicts every fault named, or all, once
or as often as the minutes allow; each on a store, workers and a provider of its own. Three journals
are compared then: what the producer was told is accepted, what arrived, what the store says. Exit
code 1 when something was lost, sent more often than promised, faster than the limits, or left
behind; the seed and the whole story of some of the messages are printed then. The results replace
those of the last run: `./run bench --results FOLDER chaos FAULT` leaves these alone.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import msgspec

from benchmarks import machine
from benchmarks.chaos_faults import FAULTS
from benchmarks.chaos_run import Load, Outcome, run
from benchmarks.figures import Table, number, print_table

RATE = 2000.0
SECONDS = 8.0
HEADER = (
    "fault", "lost", "sent twice / bound, hold", "sent twice / bound, resend",
    "unknown (arrived)", "recovery p50 / max, s", "limit kept", "left over",
)  # fmt: skip


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row per fault, over all its runs."""
    names = dict.fromkeys(outcome.fault for outcome in outcomes)
    return Table(HEADER, [_row(n, [o for o in outcomes if o.fault == n]) for n in names])


def _row(name: str, runs: Sequence[Outcome]) -> tuple[str, ...]:
    times = [run.recovery_s for run in runs]
    lost, most = sum(run.lost for run in runs), max(runs, key=lambda run: run.unknown)
    return (
        FAULTS[name].what,
        f"{lost:,}{' (explained)' if lost and FAULTS[name].explained else ''}",
        _twice(runs, "hold"),
        _twice(runs, "resend"),
        f"{most.unknown:,} ({most.taken:,})" if most.unknown else "0",
        f"{number(statistics.median(times))} / {number(max(times))}",
        "yes" if all(run.kept for run in runs) else "no",
        str(sum(sum(run.left.values()) for run in runs)),
    )


def _twice(runs: Sequence[Outcome], way: str) -> str:
    worst = max(runs, key=lambda run: run.twice[way] - run.bounds.get(way, 0))
    return (
        f"{worst.twice[way]:,} / {worst.bounds[way]:,}" if worst.bounds else f"{worst.twice[way]:,}"
    )


def tables() -> dict[str, Table]:
    """What the page says, by the name of its place."""
    kept = machine.saved("chaos").get("chaos")
    return {} if kept is None else {"chaos": table(msgspec.convert(kept["runs"], list[Outcome]))}


def _turns(faults: Sequence[str], seed: int, minutes: float) -> Iterator[tuple[str, int]]:
    """Faults with their seeds: each once, then all again as long as there is time."""
    ends = time.monotonic() + minutes * 60
    for turn in count():
        for name in faults:
            if turn and time.monotonic() >= ends:
                return
            yield name, seed + turn


async def _inflict(options: argparse.Namespace) -> tuple[list[Outcome], dict[str, Any]]:
    outcomes, conditions = [], machine.describe({})
    for name, seed in _turns(options.faults or list(FAULTS), options.seed, options.minutes):
        if missing := FAULTS[name].missing():
            print(f"{name}: skipped, {missing}", flush=True)
            continue
        found, conditions = await run(name, seed, Load(options.rate, options.seconds))
        print(f"{name}: {'; '.join(found.wrong) or 'as promised'}", flush=True)
        outcomes.append(found)
    return outcomes, conditions


def main(args: list[str]) -> int:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="./run bench chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for so long, else once")
    parser.add_argument("--seed", type=int, default=1, help="of the first run (%(default)s)")
    parser.add_argument("--rate", type=float, default=RATE, help="messages/s (%(default)g)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of messages (%(default)g)")
    options = parser.parse_args(args)
    for name in options.faults:
        if name not in FAULTS:
            parser.error(f"no fault {name!r} (known: {', '.join(FAULTS)})")
    outcomes, conditions = asyncio.run(_inflict(options))
    print_table("chaos", table(outcomes))
    asked = {"seed": options.seed, "rate": options.rate, "seconds": options.seconds}
    runs = [msgspec.to_builtins(outcome) for outcome in outcomes]
    if options.faults:  # the rows of the others stay as they were seen
        before = (machine.saved("chaos").get("chaos") or {}).get("runs", [])
        runs = [run for run in before if run["fault"] not in options.faults] + runs
    machine.save("chaos", {"options": asked, "conditions": conditions, "runs": runs})
    return 1 if any(outcome.wrong for outcome in outcomes) else 0
