"""Throttling: what arrives at a provider against what the limits promise.

Every case is a run of its own: an embedded store, worker processes, a backlog enqueued before, and
a sink that stamps every request when it reads it. Stamps therefore include socket queues and the
scheduling of a busy machine, which no limit promises anything about: a burst above the promise on
a machine with idle cores is a fault, on an overloaded one it may be the machine.

Prints asked and seen, and writes results/throttle-SCENARIO.json. Exit code 1 when something asked
was not seen.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import uvloop
from msgspec.structs import replace
from redis.exceptions import RedisError

from benchmarks import machine
from benchmarks.arrivals import (
    MIXED_SECONDS,
    SLOT_SECONDS,
    Arrival,
    Check,
    at_least,
    at_most,
    burst_checks,
    counts,
    figure,
    group,
    jain,
    percentile,
    promise,
    regained,
    use_check,
    worst_burst,
)
from benchmarks.stamping_sink import StampingSink
from dispatcher.config import Config, load
from dispatcher.engine.ingest import Ingest, OpenBatch, Part, Recipient, Submission
from dispatcher.engine.runtime import create_providers
from dispatcher.errors import DispatcherError
from dispatcher.messages import Content, new_ulid
from dispatcher.store.opening import Store, open_store
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
RATES = {"matrix": [0.5, 1, 10, 333, 1000, 5000], "calls": [10, 100, 1000]}
WORKERS = {"matrix": [1, 2, 4, 8], "pause": [1, 4], "urgent": [1, 4], "calls": [1, 4]}
TICK_SECONDS = 0.005
SETTLE_IN = 1.0
"""Seconds after the last worker has registered that are not counted."""
WRITES = re.compile(
    "set|del|incr|expire|rpush|sadd|h(set|setnx|del|incrby)|z(add|rem|incrby)|x(add|del|ack)"
)
"""Commands that write, of those the scripts use."""


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
        self.workers: list[subprocess.Popen[bytes]] = []
        self.conditions: dict[str, Any] = {}
        self._path = path
        self._config = config
        self._store = store
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
    ) -> None:
        """Write messages numbered from `first`; `entry` 1 or 500 in entries of that size, 0 as a
        submission of them would be cut."""
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
            await batch.enqueue(self._store.queue, part)

    async def start(self, count: int, *, ports: bool = False) -> None:
        """Start workers and wait until all have registered."""
        self.conditions = machine.describe(await self._store.client.info())
        for _ in range(count):
            self.spawn(_free_port() if ports else 0)
        while await self._store.inspector.workers() < count:
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
        keys = self._store.keys.name("limit", "*")
        names = [name async for name in self._store.client.scan_iter(keys, 1000)]
        await self._store.client.delete(*names)

    async def restart_store(self) -> None:
        """Kill the server; its keeper starts it again. Waits until it answers."""
        os.kill(int(Path(self._config.store.data_dir, "server.pid").read_text()), signal.SIGKILL)
        await asyncio.sleep(0.2)
        while True:
            with suppress(RedisError, OSError):
                await self._store.client.ping()
                return
            await asyncio.sleep(0.05)

    async def store_cpu(self) -> float:
        """Seconds of CPU the server has used."""
        info = await self._store.client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    async def commands(self) -> Counter[str]:
        """Calls of every command so far, by clients and within scripts."""
        stats = await self._store.client.info("commandstats")
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


# scenarios: the parts of each, one run a part


def matrix(options: argparse.Namespace) -> list[Run]:
    """Rates and numbers of workers, undisturbed or with faults."""
    return [
        partial(_rate, rate, workers, options)
        for rate in options.rates
        for workers in options.workers
    ]


async def _rate(rate: float, workers: int, options: argparse.Namespace) -> Case:
    seconds = options.seconds or 20
    async with rig(provider("sink", rate=f"{rate:g}/s")) as run:
        backlog = int(rate * (seconds + 5 + 2 * workers)) + 10
        await run.enqueue(backlog, entry=options.entry)
        await run.start(workers)
        await asyncio.sleep(SETTLE_IN)
        start = time.monotonic()
        disturbing = [_disturb(run, seconds)] if options.faults else []
        # one second more: the span begins with the first arrival in it
        await asyncio.gather(asyncio.sleep(seconds + max(1, 1 / rate)), *disturbing)
        arrivals = run.sink.end()
        checks = burst_checks("limit", arrivals, rate)
        if not options.faults:
            span = (start, start + seconds)
            checks.append(use_check("limit", arrivals, rate, span, 0.99 if rate >= 10 else 0))
        checks.append(
            Check("backlog left", "> 0", backlog - len(arrivals), backlog > len(arrivals))
        )
        entry = f", {options.entry} an entry" if options.entry else ""
        faults = ", with faults" if options.faults else ""
        return run.case(f"{rate:g}/s, {workers} workers{entry}{faults}", checks)


async def _disturb(run: Rig, seconds: float) -> None:
    """A worker killed and replaced, one stopped beyond its lease, limits forgotten, a restart."""
    await asyncio.sleep(0.1 * seconds)
    run.kill(run.workers[0])
    run.spawn()
    await asyncio.sleep(0.1 * seconds)
    await run.halt(run.workers[-2] if len(run.workers) > 1 else run.workers[-1], 0.25 * seconds)
    await asyncio.sleep(0.1 * seconds)
    await run.forget_limits()
    await asyncio.sleep(0.15 * seconds)
    await run.restart_store()


def shared(options: argparse.Namespace) -> list[Run]:
    """Limits that several lanes meet."""
    return [partial(part, options.seconds or 20) for part in (_carriers, _providers, _senders)]


async def _carriers(seconds: float) -> Case:
    rate, slow_rate, slow = 500, 5, 3
    limits = "".join(f'[carriers.c{n}]\nrate = "{slow_rate}/s"\n' for n in range(slow))
    async with rig(provider("sink", rate=f"{rate}/s") + limits) as run:
        for n in range(10):
            share = slow_rate if n < slow else rate / 5
            await run.enqueue(int(share * (seconds + 10)), group=n, carrier=f"c{n}")
        arrivals, span, cpu = await _measured(run, seconds)
        checks = burst_checks("provider", arrivals, rate, slack=MIXED_SECONDS)
        checks.append(use_check("provider", arrivals, rate, span, 0.98))
        for n in range(slow):
            mine = [arrival for arrival in arrivals if group(arrival) == n]
            checks += burst_checks(f"slow carrier {n}", mine, slow_rate)
            checks.append(use_check(f"slow carrier {n}", mine, slow_rate, span, 0.9))
        fair = jain(counts(arrivals, range(slow, 10), span))
        checks += [at_least("Jain of the seven fast lanes", fair, 0.98), cpu]
        return run.case("ten carriers under one provider limit, three of them slow", checks)


async def _providers(seconds: float) -> Case:
    rate = 300
    tables = '[carriers.one]\nrate = "300/s"\n'
    for n in range(3):
        tables += provider(f"p{n}")
        tables += f'[[routes]]\nto = "+4915100{n}*"\nproviders = ["p{n}"]\n'
    async with rig(tables) as run:
        for n in range(3):
            await run.enqueue(int(rate / 2 * (seconds + 10)), group=n)
        run.sink.delay("/p1", 0.15)
        arrivals, span, cpu = await _measured(run, seconds)
        checks = burst_checks("carrier", arrivals, rate)
        checks.append(use_check("carrier", arrivals, rate, span, 0.98))
        fair = jain(counts(arrivals, range(3), span))
        checks += [at_least("Jain of the three lanes", fair, 0.98), cpu]
        return run.case("a carrier limit shared by three providers, one of them slow", checks)


async def _senders(seconds: float) -> Case:
    rate, senders = 75, 300
    tables = provider("sink") + '[carriers.one]\nrate = "75/s"\n'
    tables += '[[limits]]\nname = "numbers"\nprovider = "sink"\neach = "sender"\nrate = "1/s"\n'
    async with rig(tables) as run:
        for n in range(senders):
            sender = f"+150055{n:05d}"
            await run.enqueue(int(seconds) + 10, group=n, sender=sender)
        arrivals, span, cpu = await _measured(run, seconds)
        checks = burst_checks("carrier", arrivals, rate, slack=MIXED_SECONDS)
        checks.append(use_check("carrier", arrivals, rate, span, 0.98))
        lanes: dict[str, list[Arrival]] = {}
        for arrival in arrivals:
            lanes.setdefault(arrival.sender, []).append(arrival)
        worst = max(
            worst_burst([arrival.first for arrival in mine], [1.0] * len(mine), 1.0)
            for mine in lanes.values()
        )
        fair = jain(counts(arrivals, range(senders), span))
        checks += [
            at_most("worst burst of any sender", worst, promise(1.0)),
            at_least("Jain of the senders", fair, 0.98),
            cpu,
        ]
        return run.case("300 senders at 1/s under a carrier at 75/s", checks)


async def _measured(
    run: Rig, seconds: float, workers: int = 4
) -> tuple[list[Arrival], tuple[float, float], Check]:
    """Start workers on the backlog; the arrivals, the span to look at, the store's CPU."""
    await run.start(workers)
    await asyncio.sleep(SETTLE_IN)
    start, before = time.monotonic(), await run.store_cpu()
    await asyncio.sleep(seconds + 1)
    cpu = (await run.store_cpu() - before) / (time.monotonic() - start)
    return run.sink.end(), (start, start + seconds), figure("store CPU, ms/s", cpu * 1000)


def idle(options: argparse.Namespace) -> list[Run]:
    """A backlog after nothing to do: what `burst` allows and no more."""
    seconds = 30 if options.seconds is None else options.seconds
    return [partial(_idle, rate, burst, seconds) for rate, burst in ((100, 1), (10, 50))]


async def _idle(rate: int, burst: int, seconds: float) -> Case:
    async with rig(provider("sink", rate=f"{rate}/s", burst=burst)) as run:
        await run.start(2)
        await asyncio.sleep(seconds)
        await run.enqueue(burst + rate * 10)
        await asyncio.sleep(5)
        arrivals = run.sink.end()
        checks = burst_checks("limit", arrivals, rate, burst)
        times = [arrival.first for arrival in arrivals]
        at_once = sum(at <= times[0] + 2 * SLOT_SECONDS for at in times)
        if burst > 1:
            checks.append(at_least("arrived within 100 ms", at_once, burst))
        return run.case(f"{seconds:g} s idle, {rate}/s, burst {burst}", checks)


def pause(options: argparse.Namespace) -> list[Run]:
    """The provider asks for a pause of five seconds."""
    return [partial(_pause, workers) for workers in options.workers]


async def _pause(workers: int) -> Case:
    rate, answer_seconds, asked = 100, 0.1, 5
    async with rig(provider("sink", rate=f"{rate}/s")) as run:
        run.sink.delay("/sink", answer_seconds)
        await run.enqueue(rate * 40)
        await run.start(workers)
        await asyncio.sleep(2)
        before = await run.commands()
        run.sink.throttle(asked, asked)
        await asyncio.sleep(asked - 1)
        after = await run.commands()
        await asyncio.sleep(16)
        arrivals = run.sink.end()
        throttled = [arrival.first for arrival in arrivals if not arrival.accepted]
        told = throttled[0] + answer_seconds
        in_pause = sum(told < arrival.first <= told + asked for arrival in arrivals)
        back = regained([arrival.first for arrival in arrivals], rate, told + asked)
        calls = {name: after.get(name, 0) - before.get(name, 0) for name in after}
        writes = sum(count for name, count in calls.items() if WRITES.fullmatch(name))
        checks = [
            *burst_checks("limit", arrivals, rate),
            figure("throttled", len(throttled)),
            at_most("throttled: on the wire by then", len(throttled), rate * 0.1 + workers),
            at_most("arrived after the first answer", in_pause, workers),
            at_most("seconds until 95 % are back", 99 if back is None else back, 10),
            at_most("script calls per throttled", calls.get("evalsha", 0) / len(throttled), 2),
            figure("write commands per throttled", writes / len(throttled)),
        ]
        return run.case(f"Retry-After: {asked}, {workers} workers", checks)


def tenants(options: argparse.Namespace) -> list[Run]:
    """Shares of tenants in one lane, whatever they have submitted."""
    seconds = options.seconds or 60
    return [partial(_equal, options.messages, seconds), partial(_weighted, seconds)]


async def _equal(messages: int, seconds: float) -> Case:
    async with rig(provider("sink", rate="100/s")) as run:
        for n in range(10):
            await run.enqueue(messages if n == 0 else 1000, group=n, tenant=f"t{n}")
        await run.start(2)
        await asyncio.sleep(seconds)
        arrivals = run.sink.end()
        start = arrivals[0].first
        fair = jain(counts(arrivals, range(10), (start, start + seconds)))
        checks = [at_least("Jain of the tenants", fair, 0.98)]
        return run.case(f"ten tenants, one with {messages:,} messages, nine with 1,000", checks)


async def _weighted(seconds: float) -> Case:
    tables = provider("sink", rate="100/s") + "[tenants.t0]\nweight = 3\n[tenants.t1]\n"
    async with rig(tables) as run:
        for n in range(2):
            await run.enqueue(int(100 * (seconds + 10)), group=n, tenant=f"t{n}")
        await run.start(2)
        await asyncio.sleep(seconds)
        arrivals = run.sink.end()
        start = arrivals[0].first
        three, one = counts(arrivals, range(2), (start, start + seconds))
        ratio = three / max(1, one)
        checks = [at_least("ratio", ratio, 3 * 0.95), at_most("ratio", ratio, 3 * 1.05)]
        return run.case("two tenants, weights 3 and 1", checks)


def urgent(options: argparse.Namespace) -> list[Run]:
    """Urgent messages, one at a time, on a lane saturated with bulk."""
    bounds = {1: 0.05}
    return [
        partial(_urgent, workers, options.urgent, bounds.get(workers, 0.2))
        for workers in options.workers
    ]


async def _urgent(workers: int, count: int, bound: float) -> Case:
    async with rig(provider("sink", rate="100/s")) as run:
        await run.enqueue(100 * (20 + count // 4))
        await run.start(workers)
        await asyncio.sleep(SETTLE_IN)
        submitted = {}
        for n in range(count):
            submitted[n] = time.monotonic()
            await run.enqueue(1, group=1, class_="urgent", first=n)
            await asyncio.sleep(random.uniform(0.1, 0.3))
        await asyncio.sleep(2)
        arrivals = run.sink.end()
        found = [arrival for arrival in arrivals if group(arrival) == 1]
        waits = [arrival.first - submitted[arrival.to % 10**7] for arrival in found]
        checks = [
            Check("urgent arrived", f"{count}", len(waits), len(waits) == count),
            figure("wait p50, ms", percentile(waits, 0.5) * 1000),
            at_most("wait p99, ms", percentile(waits, 0.99) * 1000, bound * 1000),
            *burst_checks("limit", arrivals, 100),
        ]
        return run.case(f"urgent under bulk at 100/s, {workers} workers", checks)


def calls(options: argparse.Namespace) -> list[Run]:
    """How often workers call the store."""
    seconds = options.seconds or 10
    parts: list[Run] = [partial(_idle_calls, workers, seconds) for workers in options.workers]
    for rate in options.rates:
        parts += [partial(_busy_calls, rate, workers, seconds) for workers in options.workers]
    return parts


async def _idle_calls(workers: int, seconds: float) -> Case:
    async with rig(provider("sink", rate="100/s")) as run:
        await run.start(workers, ports=True)
        await asyncio.sleep(5)
        rates = await run.calls_over(seconds)
        most = max(claims for claims, _ in rates)
        return run.case(
            f"nothing to do, {workers} workers", [at_most("claims/s a worker", most, 1)]
        )


async def _busy_calls(rate: float, workers: int, seconds: float) -> Case:
    async with rig(provider("sink", rate=f"{rate:g}/s")) as run:
        await run.enqueue(int(rate * (seconds + 10 + 2 * workers)) + 10)
        await run.start(workers, ports=True)
        await asyncio.sleep(2)
        rates = await run.calls_over(seconds)
        claims = sum(claims for claims, _ in rates)
        checks = [
            at_most("claims/s of the lane and its waiting", claims, 12 + workers - 1),
            at_most("settles/s a worker", max(settles for _, settles in rates), 20),
        ]
        return run.case(f"one lane at {rate:g}/s, {workers} workers", checks)


SCENARIOS: dict[str, Callable[[argparse.Namespace], list[Run]]] = {
    "matrix": matrix,
    "shared": shared,
    "idle": idle,
    "pause": pause,
    "tenants": tenants,
    "urgent": urgent,
    "calls": calls,
}


def main(args: list[str]) -> int:
    """Command line of the benchmark; 1 when something asked was not seen."""
    parser = argparse.ArgumentParser(prog="./run bench throttle", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--seconds", type=float, help="of a run (its idle part in `idle`)")
    parser.add_argument("--rates", type=_numbers, help="per second, for matrix and calls")
    parser.add_argument("--workers", type=_numbers)
    parser.add_argument("--entry", type=int, choices=(0, 1, 500), default=0, help="0: by the rate")
    parser.add_argument("--faults", action="store_true", help="in matrix")
    parser.add_argument("--messages", type=int, default=1_000_000, help="of the large tenant")
    parser.add_argument("--urgent", type=int, default=200, help="urgent messages")
    parser.add_argument("--only", type=int, help="one part of a scenario, by its number from 0")
    options = parser.parse_args(args)
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {unknown.pop()!r} (known: {', '.join(SCENARIOS)})")
    kept = [_scenario(name, options) for name in options.scenarios or SCENARIOS]
    return 0 if all(kept) else 1


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def _scenario(name: str, options: argparse.Namespace) -> bool:
    """Run one scenario and keep what was seen, also of the parts before one that fails."""
    chosen = argparse.Namespace(**vars(options))
    chosen.rates = options.rates or RATES.get(name, [])
    chosen.workers = [int(count) for count in options.workers or WORKERS.get(name, [])]
    runs = SCENARIOS[name](chosen)
    if options.only is not None:
        runs = runs[options.only : options.only + 1]
    cases, good = [], True
    for run in runs:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                case = runner.run(run())
        except DispatcherError as error:
            print(f"\n{name}: cannot be run: {error}", file=sys.stderr)
            good = False
            continue
        _print(case)
        cases.append(case)
        good = good and all(check.kept for check in case.checks)
    asked = {key: value for key, value in vars(chosen).items() if key != "scenarios"}
    conditions = cases[0].conditions if cases else {}
    found = [{"name": case.name, "checks": [c._asdict() for c in case.checks]} for case in cases]
    machine.save(f"throttle-{name}", {"options": asked, "conditions": conditions, "cases": found})
    return good


def _print(case: Case) -> None:
    print(f"\n{case.name}")
    for check in case.checks:
        verdict = "" if not check.asked else "kept" if check.kept else "NOT KEPT"
        print(f"  {check.what:<42}{check.asked:>12}{check.seen:>12,.4g}  {verdict}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
