"""What a run of the throttle benchmark needs: a store, worker processes, providers and a sink."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

from msgspec.structs import replace
from redis.exceptions import RedisError

from benchmarks import machine
from benchmarks.arrivals import Check, figure
from benchmarks.stamping_sink import StampingSink
from dispatcher.config import Config, load
from dispatcher.engine.ingest import Ingest, OpenBatch, Part, Recipient, Submission
from dispatcher.engine.runtime import create_providers
from dispatcher.messages import Content, new_ulid
from dispatcher.store.opening import Store, open_store
from dispatcher.store.submissions import Submissions
from dispatcher.units import Rates

CONFIG = """
[store]
data_dir = "{folder}/store"
[worker]
lease = "3s"
[log]
level = "warning"
"""
SENDER = "+15005550006"
PART = 2000
TICK_SECONDS = 0.005
SETTLE_IN = 1.0
"""Seconds after the last worker has registered that are not counted."""


class Case(NamedTuple):
    """The outcome of one run."""

    name: str
    checks: list[Check]
    conditions: dict[str, Any]


Run = Callable[[], Coroutine[Any, Any, Case]]


class Rig:
    """A store, a sink, and the workers between them; signals go only to what was started here."""

    def __init__(self, path: Path, config: Config, store: Store, sink: StampingSink) -> None:
        self.sink = sink
        self.store = store
        self.workers: list[subprocess.Popen[bytes]] = []
        self.conditions: dict[str, Any] = {}
        self._path = path
        self._config = config
        self._ingest = _ingest(config)
        self._large = _ingest(_without_limits(config))
        self._ports: list[int] = []
        self._late = 0.0

    def case(self, name: str, checks: list[Check]) -> Case:
        """The outcome of this run."""
        stall = figure("worst stall of this process, ms", self._late * 1000)
        return Case(name, [*checks, stall], self.conditions)

    async def watch(self) -> None:
        """Measure, until cancelled, how late the machine lets an idle process run once workers have
        begun: much more than a few ms, and arrivals say more about the machine than the limits."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            if self.conditions:
                self._late = max(self._late, time.monotonic() - before - TICK_SECONDS)

    async def enqueue(
        self,
        count: int,
        *,
        group: int = 0,
        first: int = 0,
        class_: str = "bulk",
        tenant: str = "default",
        sender: str = SENDER,
        carrier: str = "one",
        entry: int = 0,
    ) -> str:
        """Write messages numbered from `first`, as one batch, whose id is returned; `entry` 1 or
        500 in entries of that size, 0 as a submission of them would be cut."""
        ingest = self._large if entry == 500 else self._ingest
        now_us = int(time.time() * 1e6)
        submission = Submission("sms", sender, Content(text="Hi"), class_, tenant=tenant)
        batch = ingest.open(submission, (), new_ulid(now_us // 1000), now_us)
        for at in range(first, first + count, PART):
            recipients = [
                Recipient(index, f"+49151{group:03d}{index:07d}", carrier=carrier)
                for index in range(at, min(first + count, at + PART))
            ]
            part = _singly(batch, recipients) if entry == 1 else batch.part(at, recipients)
            await batch.enqueue(self.store.queue, part)
        return batch.envelope.batch

    async def start(self, count: int, *, ports: bool = False) -> None:
        """Start workers and wait until all have registered."""
        self.conditions = machine.describe(await self.store.client.info())
        for _ in range(count):
            self.spawn(_free_port() if ports else 0)
        while await self.store.inspector.workers() < count:
            if any(worker.poll() is not None for worker in self.workers):
                raise SystemExit(f"a worker has ended: {self._log.read_text()[-1000:]}")
            await asyncio.sleep(0.05)

    def spawn(self, port: int = 0) -> None:
        """Start one more worker; `port` is that of its metrics, 0 for none."""
        command = [sys.executable, "-m", "dispatcher", "worker", "--config", str(self._path)]
        environ = {**os.environ, "DISPATCHER__WORKER__PORT": str(port)}
        with self._log.open("ab") as log:
            self.workers.append(subprocess.Popen(command, stderr=log, env=environ))
        self._ports.append(port)

    async def command(self, *words: str) -> None:
        """Run a `dispatcher` command on this store, as a process of its own, to its end."""
        command = [sys.executable, "-m", "dispatcher", *words, "--config", str(self._path)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        if await process.wait():
            raise SystemExit(f"`dispatcher {' '.join(words)}` has failed")

    async def cancel(self, batch: str) -> None:
        """Cancel what is not sent of a batch."""
        await Submissions(self.store.client, self.store.keys).cancel(batch, self._config.providers)

    async def counts(self, batch: str) -> dict[str, int]:
        """Messages of a batch by status."""
        view = await self.store.inspector.batch(batch)
        assert view is not None
        return view.counts

    async def interval_us(self, name: str) -> float:
        """The time between two units that a limit asks for now."""
        return (await self.store.inspector.limits([name]))[name].interval_us

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker without warning and forget it."""
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    async def halt(self, worker: subprocess.Popen[bytes], seconds: float) -> None:
        """Stop a worker for a while."""
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        worker.send_signal(signal.SIGCONT)

    async def forget_limits(self) -> None:
        """Delete the state of all limits."""
        keys = self.store.keys.name("limit", "*")
        names = [name async for name in self.store.client.scan_iter(keys, 1000)]
        await self.store.client.delete(*names)

    async def restart_store(self) -> None:
        """Kill the server; its keeper starts it again. Waits until it answers."""
        os.kill(int(Path(self._config.store.data_dir, "server.pid").read_text()), signal.SIGKILL)
        await asyncio.sleep(0.2)
        while True:
            with suppress(RedisError, OSError):
                await self.store.client.ping()
                return
            await asyncio.sleep(0.05)

    async def store_cpu(self) -> float:
        """Seconds of CPU the server has used."""
        info = await self.store.client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    async def commands(self) -> Counter[str]:
        """Calls of every command so far, by clients and within scripts."""
        stats = await self.store.client.info("commandstats")
        return Counter({name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()})

    async def calls_over(self, seconds: float) -> list[tuple[float, float]]:
        """Claims and settles per second of every worker."""
        before, started = await self._scrape(), time.monotonic()
        await asyncio.sleep(seconds)
        after, passed = await self._scrape(), time.monotonic() - started
        return [
            ((claims - old_claims) / passed, (settles - old_settles) / passed)
            for (claims, settles), (old_claims, old_settles) in zip(after, before, strict=True)
        ]

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    async def _scrape(self) -> list[tuple[float, float]]:
        pages = await asyncio.gather(*(asyncio.to_thread(_metrics, port) for port in self._ports))
        names = ("dispatcher_claims_total", "dispatcher_settle_seconds_count")
        return [(page.get(names[0], 0.0), page.get(names[1], 0.0)) for page in pages]

    @property
    def _log(self) -> Path:
        return self._path.with_name("workers.log")


@asynccontextmanager
async def rig(tables: str) -> AsyncIterator[Rig]:
    """A run with these tables of configuration; ends everything it started. Raises ConfigError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sink = StampingSink(folder / "arrivals")
        try:
            path = folder / "dispatcher.toml"
            path.write_text(CONFIG.format(folder=folder) + tables.replace("URL", sink.url))
            config = load(path, {})
            async with open_store(config.store) as store:
                run = Rig(path, config, store, sink)
                watching = asyncio.create_task(run.watch())
                try:
                    yield run
                finally:
                    watching.cancel()
                    await asyncio.to_thread(run.close)
        finally:
            sink.close()


def provider(name: str, *, rate: str | None = None, burst: int = 1) -> str:
    """The table of a provider whose requests go to the path of its name at the sink."""
    lines = [f"[providers.{name}]", 'kind = "webhook"', f'url = "URL/{name}"', f"burst = {burst}"]
    if rate is not None:
        lines.append(f'rate = "{rate}"')
    return "\n".join([*lines, ""])


def _ingest(config: Config) -> Ingest:
    return Ingest(config, create_providers(config))


def _without_limits(config: Config) -> Config:
    """Where nothing has a rate, entries are as large as they can be."""
    providers = {name: replace(item, rate=Rates()) for name, item in config.providers.items()}
    return replace(config, providers=providers, carriers={}, limits=())


def _singly(batch: OpenBatch, recipients: list[Recipient]) -> Part:
    """One part with an entry for each recipient."""
    parts = [batch.part(recipient.index, [recipient]) for recipient in recipients]
    entries = [entry for part in parts for entry in part.entries]
    return parts[0]._replace(entries=entries, accepted=len(entries))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _metrics(port: int) -> dict[str, float]:
    """The series without labels on a worker's metrics page."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    pairs = (line.split() for line in lines if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in pairs}
