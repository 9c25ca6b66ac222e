"""Idle: what a worker and an API with nothing to do cost, in CPU and in commands to the store.

CPU time is what the kernel's scheduler has counted (Linux only). Commands are those that the server
shows to a monitor: what the process sends, and apart from that what scripts call.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import drain, figures, machine, processes
from benchmarks.drain import Bench
from benchmarks.scenarios import SCENARIOS

SCENARIO = SCENARIOS["single"]
WORDS = {
    "cpu_percent": "CPU, % of one core",
    "commands_per_second": "commands to the store/s",
    "inside_per_second": "commands inside scripts/s",
}


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="./run bench idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--settle", type=float, default=2.0, help="seconds it is left alone before")
    options = parser.parse_args(args)
    if not Path("/proc/self/schedstat").exists():
        raise SystemExit("idle: needs the scheduler figures in /proc that Linux has")
    result: dict[str, Any] = {"seconds": options.seconds}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for name in ("worker", "api"):
            result |= runner.run(_run(name, options.settle, options.seconds))
    figures.print_table(f"idle for {options.seconds:g} s", _table(result))
    machine.save("idle", result)


async def _run(name: str, settle: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        async with drain.opened(Path(folder), SCENARIO.tables("http://127.0.0.1:9")) as bench:
            if name == "worker":
                child = stack.enter_context(processes.worker(bench.path))
                while not await bench.store.inspector.workers():
                    await asyncio.sleep(0.1)
            else:
                child = stack.enter_context(processes.api(bench.path)).child
            await asyncio.sleep(settle)
            found = await _watch(bench, child, seconds)
            return {"conditions": await bench.conditions(), name: found}


async def _watch(bench: Bench, child: processes.Child, seconds: float) -> dict[str, Any]:
    """What happens in this time."""
    sent: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    async with bench.store.blocking.monitor() as monitor:
        cpu, started = _cpu_seconds(child.pid), time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for command in monitor.listen():
                    name = command["command"].partition(" ")[0].lower()
                    (inside if command["client_type"] == "lua" else sent)[name] += 1
        child.check()
        cpu, seconds = _cpu_seconds(child.pid) - cpu, time.monotonic() - started
    return {
        "cpu_percent": cpu / seconds * 100,
        "commands_per_second": sent.total() / seconds,
        "inside_per_second": inside.total() / seconds,
        "commands": dict(sent),
        "inside": dict(inside),
    }


def _cpu_seconds(pid: int) -> float:
    """CPU time a process has used, of all its threads."""
    paths = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in paths) / 1e9


def _table(result: dict[str, Any]) -> figures.Table:
    rows = [
        [words, *(figures.number(result[name][key]) for name in ("worker", "api"))]
        for key, words in WORDS.items()
        if key in result["worker"]
    ]
    return figures.Table(("idle", "worker", "API"), rows)


def tables() -> dict[str, figures.Table]:
    """What `report` shows of the kept results."""
    found = machine.saved("idle").get("idle")
    return {"idle": _table(found)} if found else {}
