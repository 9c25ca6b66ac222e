"""Enqueues a batch as `dispatcher send` does, and drains it with one worker process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import machine, processes
from benchmarks.scenarios import COLUMNS, Scenario
from dispatcher.config import load
from dispatcher.engine.ingest import Ingest, Recipient, Submission
from dispatcher.engine.runtime import create_providers
from dispatcher.messages import new_ulid
from dispatcher.store.opening import Store, open_store

PART = 2000
PARTS_UNDER_WAY = 4
STORE = """
[store]
data_dir = "{folder}/store"
[worker]
port = 0
[log]
level = "warning"
"""


class Bench:
    """A store of its own in a folder, and the configuration that uses it."""

    def __init__(self, folder: Path, store: Store, path: Path) -> None:
        self.folder = folder
        self.store = store
        self.path = path
        config = load(path, {})
        self.ingest = Ingest(config, create_providers(config))

    async def conditions(self) -> dict[str, Any]:
        """What a result says of the machine and the server."""
        return machine.describe(await self.store.client.info())

    async def used_memory(self) -> int:
        """Bytes the store has in use."""
        return int((await self.store.client.info("memory"))["used_memory"])

    async def store_cpu(self) -> float:
        """Seconds of CPU time the store has used."""
        info = await self.store.client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    async def enqueue(self, submission: Submission, recipients: Iterable[str]) -> str:
        """Submit one batch, a few parts under way at a time; its id."""
        now_us = int(time.time() * 1e6)
        opened = self.ingest.open(submission, COLUMNS, new_ulid(now_us // 1000), now_us)
        under_way: set[asyncio.Task[Any]] = set()
        for first, part in _parts(recipients):
            made = opened.part(first, part)
            under_way.add(asyncio.create_task(opened.enqueue(self.store.queue, made)))
            if len(under_way) == PARTS_UNDER_WAY:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        await asyncio.gather(*under_way)
        return opened.envelope.batch

    async def sent(self, batches: Iterable[str]) -> int:
        """How many messages of these batches are sent."""
        views = [await self.store.inspector.batch(batch) for batch in batches]
        return sum(view.counts["sent"] for view in views if view is not None)


@asynccontextmanager
async def opened(folder: Path, tables: str) -> AsyncIterator[Bench]:
    """A new embedded store, and these tables as the rest of the configuration."""
    path = folder / "dispatcher.toml"
    path.write_text(STORE.format(folder=folder) + tables)
    async with open_store(load(path, {}).store) as store:
        yield Bench(folder, store, path)


def bulk(scenario: Scenario, tenant: int = 0) -> Submission:
    """What a scenario submits."""
    return Submission(
        scenario.channel, scenario.sender, scenario.content, "bulk", tenant=scenario.tenant(tenant)
    )


async def enqueue_and_drain(
    bench: Bench, scenario: Scenario, messages: int, ca_file: str | None
) -> dict[str, float]:
    """The figures of one run: rates, CPU time per message in µs, memory in MB. The worker trusts
    the authorities in `ca_file` instead of those of the system."""
    started = time.perf_counter()
    batches = []
    for tenant in range(scenario.tenants):
        indexes = range(tenant, messages, scenario.tenants)
        recipients = (scenario.recipient(index // scenario.tenants) for index in indexes)
        batches.append(await bench.enqueue(bulk(scenario, tenant), recipients))
    figures = {"enqueued_per_second": messages / (time.perf_counter() - started)}
    before = await bench.store_cpu()
    trust = {"SSL_CERT_FILE": ca_file} if ca_file else {}
    with processes.worker(bench.path, trust) as worker:
        figures["sent_per_second"] = await until_sent(bench, batches, messages, worker)
        used = await bench.store_cpu() - before
    figures["worker_cpu_us_per_message"] = worker.usage.cpu_seconds / messages * 1e6
    figures["store_cpu_us_per_message"] = used / messages * 1e6
    figures["worker_peak_rss_mb"] = worker.usage.peak_rss_mb
    return figures


async def until_sent(
    bench: Bench, batches: Sequence[str], messages: int, worker: processes.Child
) -> float:
    """Messages per second from the first settled ones to the last."""
    first, before = time.perf_counter(), 0
    while (sent := await bench.sent(batches)) < messages:
        if before == 0 and sent:
            first, before = time.perf_counter(), sent
        worker.check()
        await asyncio.sleep(0.05)
    return (messages - before) / (time.perf_counter() - first)


def _parts(recipients: Iterable[str]) -> Iterator[tuple[int, list[Recipient]]]:
    """Records in parts, each with the index of its first one."""
    records = (
        Recipient(index, to, ("Anna", f"{index % 1_000_000:06d}"))
        for index, to in enumerate(recipients)
    )
    while part := list(islice(records, PART)):
        yield part[0].index, part
