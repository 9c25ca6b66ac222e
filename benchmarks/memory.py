"""Memory: of the store per message, and of the processes at full speed.

Messages have a 40-character text with two parameters and stand 100 to an entry, as behind a limit
of 1,000/s; they are then drained without that limit. API memory is after calls of 1,000 recipients.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import bare, calls, drain, figures, machine, processes
from benchmarks.drain import Bench
from benchmarks.scenarios import SCENARIOS

SCENARIO = SCENARIOS["single"]
RATE = 'rate = "1000/s"\n'
"""Makes entries of 100 messages."""
WORDS = {
    "queued_bytes": "store, bytes per queued message, 100 per entry",
    "settled_bytes": "store, bytes per settled message",
    "worker_peak_rss_mb": "worker, peak RSS, MB",
    "api_peak_rss_mb": "API, peak RSS, MB",
    "sent_per_second": "sent meanwhile, messages/s",
    "api_per_second": "submitted meanwhile, recipients/s",
}
RECIPIENTS = 1000
IN_FLIGHT = 8

Figures = dict[str, float]


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="./run bench memory", description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--calls", type=int, default=200, help="of 1,000 recipients each")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args(args)
    runs: list[Figures] = []
    conditions: dict[str, Any] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(options.runs):
            found, conditions = runner.run(_run(options.messages, options.calls))
            runs.append(found)
    summary = figures.summarise(runs)
    title = f"memory: {options.messages:,} messages, {len(runs)} runs"
    figures.print_table(title, figures.list_figures(summary, WORDS))
    result = {**vars(options), "conditions": conditions, "summary": summary, "runs": runs}
    machine.save("memory", result)


async def _run(messages: int, count: int) -> tuple[Figures, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name, processes.sink() as sink:
        folder, tables = Path(name), SCENARIO.tables(sink.origin)
        async with drain.opened(folder, tables + RATE) as limited:
            empty = await limited.used_memory()
            numbers = (SCENARIO.recipient(index) for index in range(messages))
            batch = await limited.enqueue(drain.bulk(SCENARIO), numbers)
            found = {"queued_bytes": (await limited.used_memory() - empty) / messages}
            async with drain.opened(folder, tables) as bench:
                with processes.worker(bench.path) as worker:
                    rate = await drain.until_sent(bench, [batch], messages, worker)
                found["settled_bytes"] = (await bench.used_memory() - empty) / messages
                found["sent_per_second"] = rate
                found["worker_peak_rss_mb"] = worker.usage.peak_rss_mb
                found |= await _api(bench, count)
                return found, await bench.conditions()


async def _api(bench: Bench, count: int) -> Figures:
    with processes.api(bench.path) as api:
        wire = calls.wire(api, RECIPIENTS)
        rate = await bare.measure(wire, count, IN_FLIGHT, api.port) * RECIPIENTS
    return {"api_per_second": rate, "api_peak_rss_mb": api.child.usage.peak_rss_mb}


def tables() -> dict[str, figures.Table]:
    """What `report` shows of the kept results."""
    found = machine.saved("memory").get("memory")
    return {"memory": figures.list_figures(found["summary"], WORDS)} if found else {}
