"""Latency: urgent messages through the API while a backlog of bulk fills the same lane's rate.

Open loop: urgent calls start on a fixed schedule and wait for no answer, so a slow moment counts
for every message that falls into it. `arrival` is from the scheduled start of the call to the
sink; `wait` is from the answer of the API to the sink, 0 where the message was faster. All on the
monotonic clock of one machine. With several worker processes each runs on its own.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import uvloop

from benchmarks import calls, drain, figures, machine, processes
from benchmarks.drain import Bench
from benchmarks.scenarios import SCENARIOS

SCENARIO = SCENARIOS["single"]
STAMP = "urgent-"
LAST_SECONDS = 10.0
"""How long the last urgent message may take to arrive."""
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
WORDS = {"arrival": "call → sink, ms", "wait": "accepted → sink, ms"}


class Call(NamedTuple):
    """One urgent message: its number, when its call was due and when it was answered, in ns."""

    number: int
    due: int
    answered: int


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="./run bench latency", description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 3], help="workers in turn")
    parser.add_argument("--bulk", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=2_000, help="of the lane, messages/s")
    parser.add_argument("--urgent", type=int, default=50, help="urgent messages/s")
    parser.add_argument("--seconds", type=float, default=20.0, help="per number of processes")
    parser.add_argument("--settle", type=float, default=2.0, help="seconds of bulk alone before")
    options = parser.parse_args(args)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_run(options))
    title = f"latency: {options.urgent} urgent/s, {options.bulk:,} bulk at {options.rate:,}/s"
    figures.print_table(title, _table(result["processes"]))
    machine.save("latency", {**vars(options), **result})


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as name,
        processes.sink("--stamp", STAMP) as sink,
    ):
        tables = SCENARIO.tables(sink.origin) + f'rate = "{options.rate}/s"\n'
        async with drain.opened(Path(name), tables) as bench:
            numbers = (SCENARIO.recipient(index) for index in range(options.bulk))
            await bench.enqueue(drain.bulk(SCENARIO), numbers)
            phases: list[tuple[int, float, list[Call]]] = []
            with processes.api(bench.path) as api:
                for count in options.processes:
                    first = sum(len(made) for _, _, made in phases)
                    rate, made = await _phase(options, bench, sink, api, count, first)
                    phases.append((count, rate, made))
            conditions = await bench.conditions()
            stamps = sink.finish()
    found = {str(count): _figures(rate, made, stamps) for count, rate, made in phases}
    return {"conditions": conditions, "processes": found}


async def _phase(
    options: argparse.Namespace,
    bench: Bench,
    sink: processes.Sink,
    api: processes.Api,
    workers: int,
    first: int,
) -> tuple[float, list[Call]]:
    """The rate of the lane, and the urgent calls that were made."""
    with ExitStack() as stack:
        children = [stack.enter_context(processes.worker(bench.path)) for _ in range(workers)]
        before = sink.messages()
        while sink.messages() == before:
            children[0].check()
            await asyncio.sleep(0.05)
        await asyncio.sleep(options.settle)
        before, started = sink.messages(), time.monotonic()
        count = int(options.urgent * options.seconds)
        made = await _submit(api, range(first, first + count), options.urgent)
        rate = (sink.messages() - before) / (time.monotonic() - started)
        await _until_arrived(sink, first + count)
        if not await _backlog(bench):
            raise SystemExit("the backlog has run out: use more --bulk")
    return rate, made


async def _backlog(bench: Bench) -> int:
    """Bulk messages that wait."""
    inspector = bench.store.inspector
    lanes = await inspector.lanes(await inspector.lane_names(["sink"]))
    return sum(lane.depth["bulk"] for lane in lanes)


async def _submit(api: processes.Api, numbers: range, per_second: int) -> list[Call]:
    """Start a call for every number at its time, and wait for the answers at the end."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=calls.HEADERS) as session:
        started = time.monotonic_ns() + 100_000_000
        running = []
        for number in numbers:
            due = started + (number - numbers[0]) * 1_000_000_000 // per_second
            await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
            running.append(asyncio.create_task(_call(session, api.url, number, due)))
        return await asyncio.gather(*running)


async def _call(session: aiohttp.ClientSession, url: str, number: int, due: int) -> Call:
    body = calls.body(1, "urgent", f"{STAMP}{number:06d}")
    async with session.post(url, data=body) as response:
        answered = time.monotonic_ns()
        if response.status != 202:
            raise SystemExit(f"an urgent call was answered {response.status}")
    return Call(number, due, answered)


async def _until_arrived(sink: processes.Sink, count: int) -> None:
    deadline = time.monotonic() + LAST_SECONDS
    while (found := sink.stamps()) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{count - found} urgent messages have not arrived")
        await asyncio.sleep(0.05)


def _figures(rate: float, made: Sequence[Call], stamps: Mapping[int, int]) -> dict[str, Any]:
    """Percentiles and all values in ms."""
    arrival = sorted((stamps[call.number] - call.due) / 1e6 for call in made)
    wait = sorted(max(0, stamps[call.number] - call.answered) / 1e6 for call in made)
    values = {"arrival": arrival, "wait": wait}
    summary = {
        name: {key: figures.percentile(found, share) for key, share in PERCENTILES.items()}
        for name, found in values.items()
    }
    rounded = {name: [round(value, 2) for value in found] for name, found in values.items()}
    return {"lane_per_second": rate, "urgent": len(made), "summary": summary, "values": rounded}


def _table(phases: Mapping[str, Mapping[str, Any]]) -> figures.Table:
    rows = [
        [
            f"{count} worker process{'es' if count != '1' else ''}, {words}",
            *(f"{phase['summary'][name][key]:,.1f}" for key in PERCENTILES),
            figures.number(phase["lane_per_second"]),
        ]
        for count, phase in phases.items()
        for name, words in WORDS.items()
    ]
    return figures.Table(("urgent under bulk", *PERCENTILES, "lane, messages/s"), rows)


def tables() -> dict[str, figures.Table]:
    """What `report` shows of the kept results."""
    found = machine.saved("latency").get("latency")
    return {"latency": _table(found["processes"])} if found else {}
