"""What it costs to be surer of what is accepted: `[store] appendfsync` and `confirm`.

`one` are API calls with one recipient, `many` with 1,000 of them, `alone` is one call at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import bare, calls, figures, machine, processes
from benchmarks.drain import STORE, Bench
from benchmarks.ingest import MANY, NOWHERE
from dispatcher.config import load
from dispatcher.store.opening import open_store

MODES = {
    "everysec, memory": 'appendfsync = "everysec"\nconfirm = "memory"\n',
    "everysec, disk": 'appendfsync = "everysec"\nconfirm = "disk"\n',
    "always, memory": 'appendfsync = "always"\nconfirm = "memory"\n',
    "always, disk": 'appendfsync = "always"\nconfirm = "disk"\n',
}
"""`appendfsync` and `confirm`, and the keys that say so."""
HEADER = (
    "`appendfsync`, `confirm`",
    "calls/s, 1 recipient",
    "recipients/s, 1,000 a call",
    "one call alone, ms",
)

Figures = dict[str, float]


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="./run bench durability", description=__doc__)
    parser.add_argument("--calls", type=int, default=4000, help="with one recipient, 64 in flight")
    parser.add_argument("--many", type=int, default=80, help="of 1,000 recipients, 16 in flight")
    parser.add_argument("--alone", type=int, default=40, help="calls one after the other")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mode", choices=MODES, help="only this one")
    options = parser.parse_args(args)
    chosen = [options.mode] if options.mode else list(MODES)
    runs: dict[str, list[Figures]] = {name: [] for name in chosen}
    conditions: dict[str, Any] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(options.runs):
            for name in chosen:
                found, conditions = runner.run(_run(MODES[name], options))
                runs[name].append(found)
    modes = {name: figures.summarise(found) for name, found in runs.items()}
    figures.print_table("durability", _table(modes))
    machine.save("durability", {**vars(options), "conditions": conditions, "modes": modes})


async def _run(keys: str, options: argparse.Namespace) -> tuple[Figures, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dispatcher.toml"
        head, _, tail = STORE.format(folder=folder).partition("[worker]")
        path.write_text(f"{head}{keys}[worker]{tail}{NOWHERE}")
        async with open_store(load(path, {}).store) as store:
            bench = Bench(Path(folder), store, path)
            with processes.api(path) as api:
                one, many = calls.wire(api, 1), calls.wire(api, MANY)
                await bare.measure(one, 64, 64, api.port)  # until all of it is warm
                found = {
                    "one_per_second": await bare.measure(one, options.calls, 64, api.port),
                    "many_per_second": MANY * await bare.measure(many, options.many, 16, api.port),
                    "alone_ms": 1e3 / await bare.measure(one, options.alone, 1, api.port),
                }
            return found, await bench.conditions()


def _table(found: Mapping[str, Mapping[str, figures.Spread]]) -> figures.Table:
    names = ("one_per_second", "many_per_second", "alone_ms")
    rows = [
        (mode, *(figures.shown(measured[name]) for name in names))
        for mode, measured in found.items()
    ]
    return figures.Table(HEADER, rows)


def tables() -> dict[str, figures.Table]:
    """What `report` shows of the kept results."""
    found = machine.saved("durability").get("durability")
    return {"durability": _table(found["modes"])} if found else {}
