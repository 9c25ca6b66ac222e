"""Throughput: enqueue a batch, then drain it with one worker process to a sink on this machine.

Every round runs `single` and, right after it, the other scenarios asked for; after each of them a
bare loop posts a request of the worker again and again to the same sink. What holds on a busy
machine are the ratios within a round. Where nginx is installed the bare loop posts to it, too: a
sink that is slower than nginx would be what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import bare, certificate, drain, figures, machine, processes
from benchmarks.scenarios import SCENARIOS, Scenario

BASE = "single"
WORDS = {
    "enqueued_per_second": "enqueued, messages/s",
    "sent_per_second": "sent, messages/s, one worker process",
    "bare_per_second": "bare loop, messages/s",
    "nginx_per_second": "bare loop to nginx, messages/s",
    "to_bare": "sent ÷ bare loop",
    "to_single": "sent ÷ single",
    "worker_cpu_us_per_message": "worker CPU per message, µs",
    "store_cpu_us_per_message": "store CPU per message, µs",
    "sink_cpu_us_per_message": "sink CPU per message, µs (bare loop included)",
    "worker_peak_rss_mb": "worker peak RSS, MB",
    "messages_per_request": "messages per request",
}
COLUMNS_SHOWN = ("sent_per_second", "to_single", "to_bare", "worker_cpu_us_per_message",
                 "store_cpu_us_per_message", "worker_peak_rss_mb")  # fmt: skip

Figures = dict[str, float]


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="./run bench throughput", description=__doc__)
    parser.add_argument(
        "--scenario", nargs="+", default=[BASE], choices=(*SCENARIOS, "all"), metavar="NAME",
        help=f"{', '.join(SCENARIOS)}, or all (default: {BASE}, which always runs)",
    )  # fmt: skip
    parser.add_argument("--messages", type=int, default=100_000, help="of single; others by share")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(args)
    wanted = SCENARIOS if "all" in options.scenario else options.scenario
    names = [BASE, *(name for name in wanted if name != BASE and _possible(name))]
    program = processes.find_nginx()
    if program is None:
        print("nginx is not installed: the row of the bare loop to nginx is left out")
    runs: dict[str, list[Figures]] = {name: [] for name in names}
    conditions: dict[str, Any] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(options.runs):
            for name in names:
                nginx = program if name == BASE else None
                found, conditions = runner.run(_run(SCENARIOS[name], options.messages, nginx))
                runs[name].append(found)
                base = runs[BASE][-1]["sent_per_second"]
                found["to_single"] = found["sent_per_second"] / base
    _keep(runs, conditions, options.messages)


def _possible(name: str) -> bool:
    """Whether this machine can run a scenario; says so where it cannot."""
    scenario = SCENARIOS[name]
    if scenario.tls and not certificate.can_create():
        print(f"{name} is left out: there is no openssl command to make a certificate with")
        return False
    files = scenario.concurrency + 200
    if not processes.allow_files(files):
        print(f"{name} is left out: it needs {files} open files (ulimit -Hn)")
        return False
    return True


async def _run(
    scenario: Scenario, messages: int, nginx: str | None
) -> tuple[Figures, dict[str, Any]]:
    messages = max(scenario.tenants, int(messages * scenario.share))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = certificate.create(folder) if scenario.tls else None
        with processes.sink(*scenario.sink, certificate=path) as sink:
            async with drain.opened(folder, scenario.tables(sink.origin)) as bench:
                found = await drain.enqueue_and_drain(bench, scenario, messages, path)
                conditions = await bench.conditions()
                found |= _arrived(sink, messages)
                found |= await _measure_bare(folder, scenario, messages, sink, nginx)
                found["to_bare"] = found["sent_per_second"] / found["bare_per_second"]
        found["sink_cpu_us_per_message"] = sink.child.usage.cpu_seconds / messages / 2 * 1e6
    return found, conditions


def _arrived(sink: processes.Sink, messages: int) -> Figures:
    if (arrived := sink.messages()) != messages:
        raise SystemExit(f"{messages} enqueued, {arrived} arrived")
    return {"messages_per_request": messages / sink.requests()}


async def _measure_bare(
    folder: Path, scenario: Scenario, messages: int, sink: processes.Sink, nginx: str | None
) -> Figures:
    """The bare loop in messages per second, with as many requests in flight as the worker."""
    wire = sink.sample()
    size = wire.count(scenario.mark.encode()) if scenario.mark else 1
    requests = max(1, messages // size)
    context = ssl.create_default_context(cafile=sink.ca_file) if sink.ca_file else None
    rate = await bare.measure(wire, requests, scenario.concurrency, sink.port, context)
    found = {"bare_per_second": rate * size}
    if nginx is not None:
        with processes.nginx(nginx, folder) as port:
            rate = await bare.measure(wire, requests, scenario.concurrency, port)
            found["nginx_per_second"] = rate * size
    return found


def _keep(runs: Mapping[str, Sequence[Figures]], conditions: dict[str, Any], messages: int) -> None:
    for name, found in runs.items():
        scenario, summary = SCENARIOS[name], figures.summarise(found)
        count = int(messages * scenario.share)
        title = f"{name}: {scenario.what}; {count:,} messages, {len(found)} runs"
        figures.print_table(title, figures.list_figures(summary, WORDS))
        result = {
            "what": scenario.what,
            "messages": count,
            "concurrency": scenario.concurrency,
            "conditions": conditions,
            "summary": summary,
            "runs": found,
        }
        machine.save(f"throughput-{name}", result)


def tables() -> dict[str, figures.Table]:
    """What `report` shows of the kept results."""
    found = machine.saved("throughput-*")
    names = [name for name in SCENARIOS if f"throughput-{name}" in found]
    if not names:
        return {}
    results = {name: found[f"throughput-{name}"] for name in names}
    rows = [
        [f"`{name}`", *(figures.shown(result["summary"].get(key)) for key in COLUMNS_SHOWN)]
        for name, result in results.items()
    ]
    header = ("scenario", *(WORDS[key] for key in COLUMNS_SHOWN))
    base = figures.list_figures(results[BASE]["summary"], WORDS)
    return {"throughput": figures.Table(header, rows), "throughput-single": base}
