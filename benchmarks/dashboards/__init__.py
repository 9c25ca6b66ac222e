"""Dashboards: every panel and rule asked of a real Prometheus that scrapes real workers."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.dashboards import draw
from benchmarks.dashboards.load import play
from benchmarks.dashboards.prometheus import Prometheus, Span
from benchmarks.dashboards.queries import Asked, of_dashboards, of_rules
from benchmarks.dashboards.stage import Failed, Stage, stage
from dispatcher.errors import DispatcherError


def main(args: list[str]) -> int:
    """Command line; 1 if any expression returned no series."""
    parser = argparse.ArgumentParser(prog="./run dashboards", description=__doc__)
    parser.add_argument("--seconds", type=int, default=80, help="of load (%(default)s)")
    parser.add_argument(
        "--pictures",
        type=Path,
        default=draw.FOLDER,
        metavar="FOLDER",
        help="where the PNGs go, else grafana/preview",
    )
    options = parser.parse_args(args)
    if shutil.which("prometheus") is None:
        print("dashboards: prometheus is not installed (Debian: prometheus)", file=sys.stderr)
        return 1
    if find_spec("matplotlib") is None:
        print(
            'dashboards: matplotlib is missing (pip install "dispatcher[bench]")', file=sys.stderr
        )
        return 1
    with stage() as running:
        return _evaluate(running, options.seconds, options.pictures)


def _evaluate(running: Stage, seconds: int, pictures: Path) -> int:
    started = time.time()
    print(f"store, API, 2 workers, simulator and Prometheus run; {seconds} s of load", flush=True)
    if not _play(running, seconds):
        return 1
    span = Span(started, time.time())
    asked = [*of_dashboards(), *of_rules()]
    empty = _report(running.prometheus, asked, span)
    for path in draw.dashboards(running.prometheus, span, pictures):
        print(f"drawn: {path}")
    print(f"{len(asked)} expressions, {empty} of them without a series")
    return 1 if empty else 0


def _play(running: Stage, seconds: int) -> bool:
    """Whether all that was to happen did."""
    failed = False
    try:
        asyncio.run(play(running, seconds))
    except* (Failed, DispatcherError) as failures:
        failed = True
        for failure in failures.exceptions:
            print(f"dashboards: {failure}", file=sys.stderr)
    return not failed


def _report(prometheus: Prometheus, asked: Sequence[Asked], span: Span) -> int:
    """Print how many series each expression returned over the run; how many returned none."""
    empty = 0
    for one in asked:
        series = len(prometheus.over(one.expr, span))
        empty += not series
        print(f"{series:4}  {one.where}", flush=True)
        if not series:
            print(f"      {' '.join(one.expr.split())}", flush=True)
    return empty
