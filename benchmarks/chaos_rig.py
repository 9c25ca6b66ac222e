"""What a chaos run needs: a store, three workers, a producer, and a sink that stamps arrivals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.chaos_store import Server
from benchmarks.checker import Expected, Final, Journals
from benchmarks.stamping_sink import StampingSink
from dispatcher import failpoints
from dispatcher.config import Config, load
from dispatcher.engine.ingest import Ingest, OpenBatch, Recipient, Submission
from dispatcher.engine.runtime import create_providers
from dispatcher.engine.settler import COALESCE_SECONDS
from dispatcher.errors import StoreUnavailable
from dispatcher.messages import Content, new_ulid
from dispatcher.store.confirming import Confirm
from dispatcher.store.opening import Store
from tests.faults.nodes import Cluster, Watched
from tests.faults.proxy import Proxy

ROOT = Path(__file__).parents[1]
WORKERS = 3
LEASE_SECONDS = 3.0
ANSWER_SECONDS = 0.02
"""How long the provider takes to answer."""
GRANTED_SECONDS = 0.15 + ANSWER_SECONDS
"""What a worker may have been granted and not settled, in seconds of its rate."""
SETTLED_SECONDS = COALESCE_SECONDS + ANSWER_SECONDS
"""How long after a message was sent its outcome is written."""
PART = 500
STEP_SECONDS = 0.25
DRAIN_SECONDS = 90.0
NOTICE_SECONDS = 10.0
"""How long it may take until a dead worker is noticed."""
END_SECONDS = 30.0
CONFIG = """
[store]
url = "{url}"
confirm = "{confirm}"
[worker]
lease = "{lease:g}s"
port = 0
processes = {processes}
[retry]
base = "200ms"
max = "2s"
max_attempts = 50
"""
TABLES = """
[providers.{name}]
kind = "webhook"
url = "{url}/{name}"
rate = "{rate:g}/s"
on_unknown = "{name}"
timeout = "2s"
batch = {batch}
[[routes]]
channel = "sms"
to = "+49151{number:03d}*"
providers = ["{name}"]
"""


class Way(NamedTuple):
    """One of the two lanes, named after what is done with messages that may have been sent."""

    name: str
    number: int
    class_: str
    rate: float

    @property
    def path(self) -> str:
        """Where its messages arrive."""
        return f"/{self.name}"

    def to(self, index: int) -> str:
        """A recipient of its own for every message."""
        return f"+49151{self.number:03d}{index:07d}"


def ways(rate: float) -> tuple[Way, Way]:
    """Both lanes, with half the rate each."""
    return Way("hold", 0, "bulk", rate / 2), Way("resend", 1, "normal", rate / 2)


class Setting(NamedTuple):
    """How a run differs from others: which servers are the store and how it confirms what is
    accepted, workers under a supervisor or with every call made twice, the store behind a proxy,
    messages per request, a store whose clock can be moved, and the failpoints of the first
    worker."""

    servers: Literal["one", "on a small disk", "behind Sentinel", "cluster"] = "one"
    confirm: Confirm = "memory"
    supervised: bool = False
    twice: bool = False
    proxied: bool = False
    batch: int = 1
    clock: bool = False
    failpoint: str = ""


class Site:
    """One run under way. Its store is `server`, or `nodes` where it has several. `clock` is what to
    add to the store's time to get monotonic time, `struck` is when the last fault was injected,
    `behind` for how many seconds the replica had heard nothing by then; `wrong` collects what went
    wrong besides the messages."""

    server: Server
    nodes: Watched | Cluster
    store: Store
    proxy: Proxy

    def __init__(self, folder: Path, setting: Setting, lanes: tuple[Way, ...]) -> None:
        self.folder, self.setting, self.lanes = folder, setting, lanes
        self.sink = StampingSink(folder / "arrivals")
        self.began = time.monotonic()
        self.clock = time.monotonic() - time.time()
        self.struck = self.began
        self.behind = 0.0
        self.workers: list[subprocess.Popen[bytes]] = []
        self.heard: list[str] = []
        self.wrong: list[str] = []
        self._expected: dict[int, Expected] = {}
        self._batches: dict[str, OpenBatch] = {}
        self._path = folder / "dispatcher.toml"

    @property
    def rate(self) -> float:
        """Of both lanes."""
        return sum(way.rate for way in self.lanes)

    @property
    def log(self) -> Path:
        """What the workers say."""
        return self.folder / "workers.log"

    def configure(self, url: str) -> Config:
        """Write the configuration of the workers."""
        processes = WORKERS if self.setting.supervised else 1
        values = {"url": url, "confirm": self.setting.confirm, "lease": LEASE_SECONDS}
        tables = [CONFIG.format(processes=processes, **values)]
        for way in self.lanes:
            tables.append(
                TABLES.format(**way._asdict(), url=self.sink.url, batch=self.setting.batch)
            )
            self.sink.delay(way.path, ANSWER_SECONDS)
        self._path.write_text("".join(tables))
        return load(self._path, {})

    def open_batches(self, config: Config) -> None:
        """One batch for each lane."""
        ingest, now_us = Ingest(config, create_providers(config)), int(time.time() * 1e6)
        for way in self.lanes:
            submission = Submission("sms", "+15005550006", Content(text="Hi"), way.class_)
            opened = ingest.open(submission, (), new_ulid(now_us // 1000), now_us)
            self._batches[way.name] = opened

    def spawn(self, failpoint: str = "") -> subprocess.Popen[bytes]:
        """Start one more worker, or the supervisor of all."""
        program = "benchmarks.twice" if self.setting.twice else "dispatcher"
        command = [sys.executable, "-m", program, "worker", "--config", str(self._path)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), failpoints.VARIABLE: failpoint}
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, stderr=log, env=environ)
        self.workers.append(process)
        return process

    async def start_workers(self) -> None:
        """Start all and wait until they have registered."""
        for number in range(1 if self.setting.supervised else WORKERS):
            self.spawn(self.setting.failpoint if number == 0 else "")
        await self.registered(WORKERS)

    async def registered(self, count: int) -> None:
        """Wait until there are so many workers."""
        async with asyncio.timeout(END_SECONDS):
            while await self.store.inspector.workers() < count:
                await asyncio.sleep(0.05)

    async def produce(self, seconds: float, store: Store) -> None:
        """Hand in what the lanes can send in that time, half of it at once."""
        total = [int(way.rate * seconds) // PART * PART for way in self.lanes]
        halves = [-(-count // 2 // PART) * PART for count in total]
        await self._submit(store, [range(0, half, PART) for half in halves])
        steps = max(1, int(seconds / 2 / STEP_SECONDS))
        for step in range(steps):
            later = zip(halves, total, strict=True)
            await self._submit(store, [range(*ends, PART)[step::steps] for ends in later])
            await asyncio.sleep(STEP_SECONDS)

    async def _submit(self, store: Store, firsts: Sequence[range]) -> None:
        """Hand in these parts of each lane at once; those that are confirmed together share the
        wait."""
        calls = [
            self._submit_part(store, way, first)
            for way, parts in zip(self.lanes, firsts, strict=True)
            for first in parts
        ]
        await asyncio.gather(*calls)

    async def _submit_part(self, store: Store, way: Way, first: int) -> None:
        batch = self._batches[way.name]
        listed = [Recipient(i, way.to(i), carrier="one") for i in range(first, first + PART)]
        part = batch.part(first, listed)
        await batch.enqueue_patiently(store.queue, part, DRAIN_SECONDS, self.heard.append)
        at, name = time.monotonic(), batch.envelope.batch
        for recipient in listed:
            self._expected[int(recipient.to)] = Expected(f"{name}-{recipient.index}", way.path, at)

    async def arrived(self, count: int) -> None:
        """Wait until so many requests have arrived."""
        async with asyncio.timeout(END_SECONDS):
            while self.sink.count() < count:
                await asyncio.sleep(0.02)

    async def busiest(self) -> int:
        """Process id of a worker that has just been granted most, and is sending it now."""
        before, grown = await self._granted(), 0
        for _ in range(100):
            await asyncio.sleep(0.02)
            after = await self._granted()
            grown, found = max((n - before.get(name, 0), name) for name, n in after.items())
            if grown > 0:
                break
            before = after
        await asyncio.sleep(0.05)
        return self._pid(found)

    async def _granted(self) -> dict[str, int]:
        """Messages granted to each worker in entries it has not finished."""
        found = {}
        for name in await self.store.client.zrange(self.store.keys.name("workers"), 0, -1):
            held = await self.store.client.hgetall(self.store.keys.name("held", name.decode()))
            found[name.decode()] = sum(int(n) for f, n in held.items() if not f.startswith(b"#"))
        return found

    def _pid(self, worker: str) -> int:
        return int(worker.rsplit(".", 4)[1] if self.setting.supervised else worker.split(".")[-2])

    def kill(self, pid: int) -> None:
        """End a worker without warning."""
        os.kill(pid, signal.SIGKILL)
        for worker in [worker for worker in self.workers if worker.pid == pid]:
            worker.wait()
            self.workers.remove(worker)

    async def drain(self) -> None:
        """Wait until no message is without an outcome, but not for ever."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline:
            with suppress(StoreUnavailable):
                if await self.store.inspector.unfinished() <= 0:
                    return
            await asyncio.sleep(0.05)
        self.wrong.append("messages still wait")

    async def journals(self) -> Journals:
        """All three, at the end; this ends the sink."""
        finals: dict[int, Final] = {}
        for way in self.lanes:
            batch = self._batches[way.name].envelope.batch
            indexes = [to % 10**7 for to, e in self._expected.items() if e.path == way.path]
            for at in range(0, len(indexes), 1024):
                found = await self.store.inspector.records(batch, indexes[at : at + 1024])
                for index, (status, _, record) in found.items():
                    story = [f"{a.code or 'sent'} at {a.provider}" for a in record.history]
                    when = record.at_ms / 1000 + self.clock
                    finals[int(way.to(index))] = Final(status.word, when, record.code or "", story)
        return Journals(self._expected, self.sink.end(), finals)

    async def leftovers(self) -> dict[str, int]:
        """What should be gone when all is done, by kind, without what is nought."""
        deadline = time.monotonic() + NOTICE_SECONDS
        while (found := await self._left()) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        return found

    async def _left(self) -> dict[str, int]:
        client, keys = self.store.client, self.store.keys
        held = 0
        for name in await _names(self.store, keys.name("held", "*")):
            fields = await client.hkeys(name)
            held += sum(not field.startswith(b"#") for field in fields)
        alive = sum(worker.poll() is None for worker in self.workers)
        live = WORKERS * alive if self.setting.supervised else alive
        counts = {
            "queues": len(await _names(self.store, keys.name("queue", "*"))),
            "held": held,
            "scheduled": int(await client.zcard(keys.name("scheduled"))),
            "items": int(await client.hlen(keys.name("items"))),
            "queued": int(await client.get(keys.name("queued")) or 0),
            "tenants": int(await client.hlen(keys.name("queued_by"))),
            "workers": await self.store.inspector.workers() - live,
        }
        return {name: count for name, count in counts.items() if count}

    async def forget(self) -> None:
        """Drop what is only kept for its retention."""
        for kind in ("status", "batch"):
            names = await _names(self.store, self.store.keys.name(kind, "*"))
            if names:
                await self.store.client.delete(*names)
        await self.store.client.delete(*(self.store.keys.name(k) for k in ("dead", "letters")))

    async def memory(self) -> int:
        """Bytes the store uses."""
        info: dict[str, Any] = await self.store.client.info("memory")
        return int(info["used_memory"])

    async def end_workers(self) -> None:
        """End all as an operator does."""
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        ends = (asyncio.to_thread(_end, worker) for worker in self.workers)
        if any(codes := await asyncio.gather(*ends)):
            self.wrong.append(f"workers ended with {codes}")
        if traces := self.log.read_text().count("Traceback"):
            self.wrong.append(f"{traces} tracebacks in the log of the workers")
        self.workers.clear()

    def close(self) -> None:
        """End everything that still runs."""
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait()
        self.sink.close()


def _end(worker: subprocess.Popen[bytes]) -> int:
    """The exit code of a worker that drains; it is killed when that takes too long."""
    try:
        return worker.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()


async def _names(store: Store, pattern: str) -> list[bytes]:
    return [name async for name in store.client.scan_iter(pattern, 1000)]
