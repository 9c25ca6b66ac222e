"""Throughput: enqueue a batch, then drain it with one worker process to a sink on this machine.

Prints and keeps messages per second of both halves, CPU time per message of the worker and of the
store, and bytes of store per queued message.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import machine
from dispatcher.config import load
from dispatcher.engine.ingest import Ingest, Recipient, Submission
from dispatcher.engine.runtime import create_providers
from dispatcher.messages import Content, new_ulid
from dispatcher.store.opening import Store, open_store

PART = 2000
CONFIG = """
[store]
data_dir = "{folder}/store"
[providers.sink]
kind = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = "token"
base_url = "http://127.0.0.1:{port}"
concurrency = {concurrency}
[worker]
port = 0
"""


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="./run bench throughput", description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=256)
    options = parser.parse_args(args)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runs = [
            runner.run(_run(options.messages, options.concurrency)) for _ in range(options.runs)
        ]
    conditions = runs[0].pop("conditions")
    for run in runs[1:]:
        del run["conditions"]
    _print(options.messages, runs)
    result = {"messages": options.messages, "concurrency": options.concurrency}
    path = machine.save("throughput", result | {"conditions": conditions, "runs": runs})
    print(f"kept in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


async def _run(messages: int, concurrency: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        sink = _start("benchmarks.sink", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert sink.stdout is not None and sink.stdin is not None
        port = int(sink.stdout.readline())
        path = Path(folder) / "dispatcher.toml"
        path.write_text(CONFIG.format(folder=folder, port=port, concurrency=concurrency))
        config = load(path, {})
        async with open_store(config.store) as store:
            ingest = Ingest(config, create_providers(config))
            figures = await _measure(store, ingest, messages, path)
        sink.stdin.write(b"\n")
        sink.stdin.flush()
        figures["arrived"] = int(sink.stdout.readline())
        sink.stdin.close()
        sink.wait()
    if figures["arrived"] != messages:
        raise SystemExit(f"{messages} enqueued, {figures['arrived']} arrived")
    return figures


async def _measure(store: Store, ingest: Ingest, messages: int, path: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {"conditions": machine.describe(await store.client.info())}
    empty = (await store.client.info("memory"))["used_memory"]
    started = time.perf_counter()
    batch = await _enqueue(store, ingest, messages)
    figures["enqueued_per_second"] = messages / (time.perf_counter() - started)
    full = (await store.client.info("memory"))["used_memory"]
    figures["store_bytes_per_queued_message"] = (full - empty) / messages
    before, started = await _server_cpu(store), time.perf_counter()
    worker = _start("dispatcher", "worker", "--config", str(path))
    first = None
    while True:
        view = await store.inspector.batch(batch)
        assert view is not None
        if first is None and view.counts["sent"]:
            first = (time.perf_counter(), view.counts["sent"])
        if view.counts["sent"] == messages:
            break
        if worker.poll() is not None:
            raise SystemExit("the worker has ended")
        await asyncio.sleep(0.05)
    assert first is not None
    seconds = time.perf_counter() - first[0]
    figures["sent_per_second"] = (messages - first[1]) / seconds
    figures["store_cpu_us_per_message"] = (await _server_cpu(store) - before) / messages * 1e6
    figures |= _end(worker, messages)
    return figures


async def _enqueue(store: Store, ingest: Ingest, messages: int) -> str:
    now_us = int(time.time() * 1e6)
    content = Content(text="Hi {name}, your code is {code}. Reply STOP")
    submission = Submission("sms", "+15005550006", content, "bulk")
    batch = ingest.open(submission, ("name", "code"), new_ulid(now_us // 1000), now_us)
    for first in range(0, messages, PART):
        recipients = [
            Recipient(index, f"+49151{index:08d}", ("Anna", f"{index:06d}"))
            for index in range(first, min(messages, first + PART))
        ]
        await batch.enqueue(store.queue, batch.part(first, recipients))
    return batch.envelope.batch


def _start(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", module, *arguments], **options)


def _end(worker: subprocess.Popen[bytes], messages: int) -> dict[str, float]:
    worker.send_signal(signal.SIGTERM)
    _, _, usage = os.wait4(worker.pid, 0)
    worker.returncode = 0
    cpu = usage.ru_utime + usage.ru_stime
    return {
        "worker_cpu_us_per_message": cpu / messages * 1e6,
        "worker_peak_rss_mb": usage.ru_maxrss / 1024,
    }


async def _server_cpu(store: Store) -> float:
    info = await store.client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _print(messages: int, runs: list[dict[str, Any]]) -> None:
    print(f"{messages:,} messages, {len(runs)} run(s): median (lowest to highest)")
    for name in runs[0]:
        values = [run[name] for run in runs]
        low, high = min(values), max(values)
        print(f"  {name:<32}{statistics.median(values):>12,.1f}   ({low:,.1f} to {high:,.1f})")
