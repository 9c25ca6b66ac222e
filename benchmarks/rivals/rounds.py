"""Rivals: arq, saq, streaq and taskiq, and the dispatcher, each with one worker process.

Round after round, all send the same message to the same kind of sink, each on a fresh store. What
counts is the ratio within a round: the dispatcher to the fastest rival of that round.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any, NamedTuple

from benchmarks import machine
from benchmarks.rivals import environment
from benchmarks.rivals.measure import measure

RIVALS = ("arq", "saq", "streaq", "taskiq")
OWN = "dispatcher"
SCALE = 20
"""Messages of the dispatcher for each one of a rival, so that all take some seconds."""

Round = dict[str, float]
"""Messages per second of each contestant."""


class Spread(NamedTuple):
    """A figure over all rounds."""

    median: float
    low: float
    high: float


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    options = _parse(args)
    names = [name for name in RIVALS if name in (options.names or RIVALS)]
    for name in names:
        environment.prepare(name)
    rounds: list[Round] = []
    conditions: dict[str, Any] = {}
    for number in range(options.runs):
        figures, conditions = _round(names, options.messages)
        rounds.append(figures)
        _print_round(number, figures)
    summary = summarise(rounds)
    _print(summary)
    result = {
        "messages": {"rival": options.messages, OWN: options.messages * SCALE},
        "conditions": conditions,
        "rivals": {name: environment.versions(name) for name in names},
        "summary": {name: spread._asdict() for name, spread in summary.items()},
        "rounds": rounds,
    }
    machine.save("rivals", result)


def ratio(figures: Round) -> float:
    """The dispatcher to the fastest rival."""
    return figures[OWN] / max(value for name, value in figures.items() if name != OWN)


def summarise(rounds: list[Round]) -> dict[str, Spread]:
    """Messages per second of each contestant, and the ratio within the rounds."""
    series = {name: [figures[name] for figures in rounds] for name in rounds[0]}
    series[f"{OWN} ÷ fastest rival"] = [ratio(figures) for figures in rounds]
    return {
        name: Spread(statistics.median(values), min(values), max(values))
        for name, values in series.items()
    }


def _parse(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench rivals", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RIVALS)}")
    parser.add_argument("--messages", type=int, default=5_000, help="per rival and round")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    options = parser.parse_args(args)
    if unknown := sorted(set(options.names) - set(RIVALS)):
        parser.error(f"no rival {', '.join(unknown)} (known: {', '.join(RIVALS)})")
    if options.messages < 1 or options.runs < 1:
        parser.error("--messages and --runs are at least 1")
    return options


def _round(names: list[str], messages: int) -> tuple[Round, dict[str, Any]]:
    """Figures of every contestant, and the conditions of the last."""
    figures: Round = {}
    conditions: dict[str, Any] = {}
    for name in (*names, OWN):
        count = messages * SCALE if name == OWN else messages
        try:
            figures[name], conditions = measure(name, count)
        except (RuntimeError, ValueError) as error:
            raise SystemExit(f"{name}: {error}") from None
    return figures, conditions


def _print_round(number: int, figures: Round) -> None:
    cells = "  ".join(f"{name} {value:,.0f}" for name, value in figures.items())
    print(f"round {number + 1}: {cells}  ratio {ratio(figures):.1f}", flush=True)


def _print(summary: dict[str, Spread]) -> None:
    print("messages/s with one worker process: median (lowest to highest)")
    for name, spread in summary.items():
        digits = 1 if "÷" in name else 0
        median, low, high = (f"{value:,.{digits}f}" for value in spread)
        print(f"  {name:<28}{median:>10}   ({low} to {high})")
