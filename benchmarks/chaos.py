"""Chaos: what a fault costs while three workers send 2,000 messages/s on two lanes, one of which
holds messages that may have been sent while the other sends them again.

`./run bench chaos [--minutes N] [--seed S] [FAULT ...]` inflicts every fault named, or all, once
or as often as the minutes allow, with the next seed each time; each on a store, workers and a
provider of its own. Three journals are compared then: what the producer was told is accepted, what
arrived, what the store says. Exit code 1 when something was lost, sent more often than promised,
faster than the limits, or left behind; the seed and the whole story of some of the messages are
printed then. The results replace those of the last run with the same server program:
`./run bench --results FOLDER chaos FAULT` leaves these alone.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import RedisError

from benchmarks import machine
from benchmarks.chaos_faults import FAULTS
from benchmarks.chaos_run import Load, Outcome, run
from benchmarks.chaos_store import version
from benchmarks.figures import Table, number, print_table
from dispatcher.errors import DispatcherError
from dispatcher.store.embedded import find_server

RATE = 2000.0
SECONDS = 8.0
HEADER = (
    "fault", "runs", "lost", "sent twice / bound, hold", "sent twice / bound, resend",
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
        str(len(runs)),
        f"{lost:,}{' (explained)' if lost and not any(run.unexplained for run in runs) else ''}",
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
    return {
        name: table(msgspec.convert(kept["runs"], list[Outcome]))
        for name, kept in machine.saved("chaos*").items()
    }


def _turns(faults: Sequence[str], seed: int, minutes: float) -> Iterator[tuple[str, int]]:
    """Faults with their seeds: each once, then all again as long as there is time."""
    ends = time.monotonic() + minutes * 60
    for turn in count():
        for name in faults:
            if turn and time.monotonic() >= ends:
                return
            yield name, seed + turn


class _Runs(NamedTuple):
    """What came of the runs, the conditions of the last, and how many could not be made."""

    outcomes: list[Outcome]
    conditions: dict[str, Any]
    broken: int


async def _inflict(options: argparse.Namespace) -> _Runs:
    outcomes, conditions, broken = [], machine.describe({}), 0
    load = Load(options.rate, options.seconds)
    for name, seed in _turns(options.faults or list(FAULTS), options.seed, options.minutes):
        if lacking := FAULTS[name].lacks(options.server):
            print(f"{name}: skipped, {lacking}", flush=True)
            continue
        try:
            found, conditions = await run(name, seed, load, options.server)
        except (DispatcherError, RedisError, OSError) as error:
            print(f"{name}, seed {seed}: not run, {error or type(error).__name__}", flush=True)
            broken += 1
            continue
        verdict = "; ".join(found.wrong) or "as promised"
        print(f"{name}, seed {seed}, after {found.after:,} messages: {verdict}", flush=True)
        outcomes.append(found)
    return _Runs(outcomes, conditions, broken)


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument(
        "--server", metavar="PROGRAM", help="of the store, such as redis-server (the embedded one)"
    )
    return parser


def _read(args: list[str]) -> tuple[argparse.Namespace, str]:
    """The options, and under which name the results are kept: those of another server than the
    embedded one apart."""
    parser = _parser()
    options = parser.parse_args(args)
    for name in options.faults:
        if name not in FAULTS:
            parser.error(f"no fault {name!r} (known: {', '.join(FAULTS)})")
    title = f"chaos-{Path(options.server).name}" if options.server else "chaos"
    options.server = options.server or find_server()
    try:
        version(options.server)
    except ValueError as error:
        parser.error(f"--server: {error}")
    return options, title


def main(args: list[str]) -> int:
    """Command line of the benchmark."""
    options, title = _read(args)
    runs = asyncio.run(_inflict(options))
    if runs.outcomes:
        print_table(title, table(runs.outcomes))
        _keep(title, options, runs)
    return 1 if runs.broken or any(outcome.wrong for outcome in runs.outcomes) else 0


def _keep(title: str, options: argparse.Namespace, found: _Runs) -> None:
    """Save what was seen; where only some faults were inflicted, beside what was seen of others."""
    asked = {"seed": options.seed, "rate": options.rate, "seconds": options.seconds}
    runs = [msgspec.to_builtins(outcome) for outcome in found.outcomes]
    if options.faults:
        before = machine.saved(title).get(title, {}).get("runs", [])
        runs = [run for run in before if run["fault"] not in options.faults] + runs
        runs.sort(key=lambda run: list(FAULTS).index(run["fault"]))
    machine.save(title, {"options": asked, "conditions": found.conditions, "runs": runs})
