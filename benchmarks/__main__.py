"""Runs benchmarks: `python -m benchmarks [--results FOLDER] [NAME [OPTION ...]]`; without a name
the whole suite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks import machine

SUITE = (
    ("throughput", "--scenario", "all"),
    ("transport",),
    ("ingest",),
    ("latency",),
    ("memory",),
    ("idle",),
)
PROGRAMS = {
    **{name: f"benchmarks.{name}" for name, *_ in SUITE},
    "durability": "benchmarks.durability",
    "dashboards": "benchmarks.dashboards",
    "chaos": "benchmarks.chaos",
    "throttle": "benchmarks.throttle",
    "autoscale": "benchmarks.autoscale",
    "rivals": "benchmarks.rivals",
    "plot": "benchmarks.plot",
    "report": "benchmarks.report",
    "sizing": "benchmarks.sizing",
}
USAGE = f"""usage: ./run bench [--results FOLDER] [NAME [OPTION ...]]
names: {", ".join(PROGRAMS)}
without a name: {", ".join(name for name, *_ in SUITE)}"""


def main(args: list[str]) -> int:
    """Run the named benchmark with the rest of the arguments, or the suite."""
    if args[:1] == ["--results"] and len(args) > 1:
        machine.RESULTS = Path(args[1]).absolute()
        args = args[2:]
    if args and args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if args and args[0] not in PROGRAMS:
        print(f"no benchmark {args[0]!r} (known: {', '.join(PROGRAMS)})", file=sys.stderr)
        return 2
    chosen: Sequence[Sequence[str]] = [args] if args else SUITE
    for name, *options in chosen:
        if code := import_module(PROGRAMS[name]).main(options):
            return int(code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
