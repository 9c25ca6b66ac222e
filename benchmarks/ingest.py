"""Ingest: recipients per second into the queue, by every way in.

`direct` is the path of `dispatcher send` inside one process: check, cut, enqueue. `file` is the
command itself on a CSV file, its start and end included. `api` rows are calls on keep-alive
connections to one `dispatcher api` process, from a client that only writes prepared bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import bare, calls, drain, figures, machine, processes
from benchmarks.drain import Bench
from benchmarks.scenarios import SCENARIOS, TEXT

SCENARIO = SCENARIOS["single"]
NOWHERE = SCENARIO.tables("http://127.0.0.1:9")
"""Nothing is sent: no worker runs."""
WORDS = {
    "direct_per_second": "direct, recipients/s",
    "file_per_second": "`dispatcher send` of a CSV file, recipients/s",
    "many_per_second": "API, 1,000 recipients a call, recipients/s",
    "many_calls_per_second": "API, 1,000 recipients a call, calls/s",
    "one_per_second": "API, one recipient a call, calls/s",
    "direct_store_us": "direct, store CPU per recipient, µs",
    "many_store_us": "API, 1,000 recipients a call, store CPU per recipient, µs",
    "one_store_us": "API, one recipient a call, store CPU per call, µs",
}
MANY = 1000

Figures = dict[str, float]


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="./run bench ingest", description=__doc__)
    parser.add_argument("--recipients", type=int, default=200_000, help="direct, file, many")
    parser.add_argument("--calls", type=int, default=5_000, help="with one recipient each")
    parser.add_argument("--many-in-flight", type=int, default=8, help="calls of 1,000 recipients")
    parser.add_argument("--one-in-flight", type=int, default=64, help="calls of one recipient")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(args)
    runs: list[Figures] = []
    conditions: dict[str, Any] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(options.runs):
            found, conditions = runner.run(_run(options))
            runs.append(found)
    summary = figures.summarise(runs)
    figures.print_table(f"ingest, {len(runs)} runs", figures.list_figures(summary, WORDS))
    result = {**vars(options), "conditions": conditions, "summary": summary, "runs": runs}
    machine.save("ingest", result)


async def _run(options: argparse.Namespace) -> tuple[Figures, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        async with drain.opened(Path(folder), NOWHERE) as bench:
            found = await _direct(bench, options.recipients)
            found |= await _file(bench, options.recipients)
            with processes.api(bench.path) as api:
                count = max(1, options.recipients // MANY)
                many = await _calls(bench, api, MANY, count, options.many_in_flight)
                one = await _calls(bench, api, 1, options.calls, options.one_in_flight)
            conditions = await bench.conditions()
    found |= {f"many_{name}": value for name, value in many.items()}
    found |= {f"one_{name}": value for name, value in one.items()}
    return found, conditions


async def _direct(bench: Bench, recipients: int) -> Figures:
    before, started = await bench.store_cpu(), time.perf_counter()
    numbers = (SCENARIO.recipient(index) for index in range(recipients))
    await bench.enqueue(drain.bulk(SCENARIO), numbers)
    rate = recipients / (time.perf_counter() - started)
    used = await bench.store_cpu() - before
    return {"direct_per_second": rate, "direct_store_us": used / recipients * 1e6}


async def _file(bench: Bench, recipients: int) -> Figures:
    path = bench.folder / "recipients.csv"
    with path.open("w") as file:
        file.write("to,name,code\n")
        file.writelines(
            f"{SCENARIO.recipient(index)},Anna,{index % 1_000_000:06d}\n"
            for index in range(recipients)
        )
    command = [sys.executable, "-m", "dispatcher", "send", str(path), "--config", str(bench.path)]
    content = ["--channel", "sms", "--from", SCENARIO.sender, "--text", TEXT]
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, *content, cwd=processes.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        raise SystemExit(f"dispatcher send: {said.decode()}")
    return {"file_per_second": recipients / (time.perf_counter() - started)}


async def _calls(
    bench: Bench, api: processes.Api, recipients: int, count: int, in_flight: int
) -> Figures:
    """Calls with this many recipients each; all of them must have been accepted."""
    wire = calls.wire(api, recipients)
    await bare.measure(wire, in_flight, in_flight, api.port)  # until all of it is warm
    queued, before = await bench.store.inspector.unfinished(), await bench.store_cpu()
    rate = await bare.measure(wire, count, in_flight, api.port)
    used = await bench.store_cpu() - before
    accepted = await bench.store.inspector.unfinished() - queued
    if accepted != count * recipients:
        raise SystemExit(f"{count * recipients} submitted, {accepted} accepted")
    return {
        "calls_per_second": rate,
        "per_second": rate * recipients,
        "store_us": used / count / recipients * 1e6,
    }


def tables() -> dict[str, figures.Table]:
    """What `report` shows of the kept results."""
    found = machine.saved("ingest").get("ingest")
    return {"ingest": figures.list_figures(found["summary"], WORDS)} if found else {}
