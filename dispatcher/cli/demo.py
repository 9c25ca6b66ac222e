"""`dispatcher demo`: a real campaign on the embedded store, against simulated providers."""

from __future__ import annotations

import asyncio
import http.client
import secrets
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
from rich.console import Console

from dispatcher.cli import demo_campaign as campaign
from dispatcher.cli.demo_check import Arrival, judge
from dispatcher.cli.demo_child import STORE
from dispatcher.cli.demo_process import Child, ChildDied
from dispatcher.cli.demo_summary import Result, print_summary
from dispatcher.cli.demo_view import Sample, View
from dispatcher.cli.running import run, stop_on_signals
from dispatcher.config import load
from dispatcher.errors import DispatcherError
from dispatcher.settings import StoreConfig
from dispatcher.store.opening import Store, open_store

MESSAGES = 20_000
SECONDS = 55.0
"""Within a minute, with time to stop everything."""
REDRAW = 0.25
"""Seconds between two looks at the store."""
INTERRUPTED = 130
_LANES = {carrier.lane: carrier.rate for carrier in campaign.CARRIERS}


@click.command()
@click.option(
    "--messages",
    default=MESSAGES,
    show_default=True,
    type=click.IntRange(min=1),
    help="Size of the campaign.",
)
@click.option(
    "--seconds",
    default=SECONDS,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Give up after this time.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 16),
    help="Worker processes; they share every limit.",
)
def demo(messages: int, seconds: float, workers: int) -> int:
    """Send a campaign to six carriers, each at its limit, through a provider that fails.

    Everything is real but the provider: an embedded store, worker processes, a file for
    `dispatcher send`. The end is an account of every message; the exit code is 1 when one is
    missing or was sent twice without being listed as ambiguous.

    \b
    Example: dispatcher demo --messages 5000
    """
    return run(_perform(Demo(messages, workers, time.monotonic() + seconds)))


async def _perform(demo: Demo) -> int:
    """Run until the end or a signal; everything is stopped and removed in both cases."""
    stop = stop_on_signals(lambda: stop.set())
    work, ended = asyncio.create_task(demo.run()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        click.echo("interrupted: draining the worker, stopping everything", err=True)
        return INTERRUPTED
    except ChildDied as error:
        click.echo(f"dispatcher: {error}", err=True)
        return 1
    finally:
        work.cancel()
        ended.cancel()
        await asyncio.gather(work, ended, return_exceptions=True)


class _Said(msgspec.Struct, frozen=True):
    """What `send --json` prints, as far as it is needed here."""

    accepted: int
    rejected: int


@dataclass(slots=True)
class _Stage:
    """The store and the processes of one demo."""

    folder: Path
    store: Store
    url: str
    simulator: Child
    workers: list[Child]

    def check(self) -> None:
        """Raises ChildDied when a process has ended that should not have."""
        for child in (self.simulator, *self.workers):
            child.check()


class Demo:
    """One run of the demo; `deadline` is on the monotonic clock."""

    def __init__(self, messages: int, workers: int, deadline: float) -> None:
        self._recipients = campaign.recipients(messages)
        self._workers = workers
        self._deadline = deadline
        self._console = Console(highlight=False, markup=False)

    async def run(self) -> int:
        """The whole demo; its exit code. Raises ChildDied."""
        workers = f"{self._workers} worker" + ("s" if self._workers > 1 else "")
        self._console.print(
            f"{len(self._recipients):,} messages to {len(_LANES)} carriers: {workers}, "
            "embedded store, simulated Twilio"
        )
        result = await self.play()
        print_summary(self._console, result)
        return 1 if result.verdict.faults else 0

    async def play(self) -> Result:
        """Send the campaign and collect its account; nothing is left of it. Raises ChildDied."""
        with tempfile.TemporaryDirectory(
            prefix="dispatcher-demo-", ignore_cleanup_errors=True
        ) as folder:
            async with AsyncExitStack() as stack:
                stage = await self._set_up(Path(folder), stack)
                return await self._send(stage, stack)

    async def _set_up(self, folder: Path, stack: AsyncExitStack) -> _Stage:
        config, settings = folder / "dispatcher.toml", folder / "simulator.json"
        account = campaign.new_account(secrets.token_hex(16))
        campaign.write_campaign(folder / "campaign.csv", self._recipients)
        campaign.write_simulator(settings, len(self._recipients), account)
        simulator = await self._start(
            stack, folder, "simulator", "simulator", "--port", "0", "--settings", str(settings)
        )
        url = (await simulator.line()).rpartition(" ")[2]
        campaign.write_config(config, folder / STORE, url, account)
        store = await self._open(stack, load(config, {}, {}).store)
        names = [f"worker {number}" for number in range(1, self._workers + 1)]
        workers = [
            await self._start(stack, folder, name, "worker", "--config", str(config))
            for name in (names if self._workers > 1 else ["worker"])
        ]
        return _Stage(folder, store, url, simulator, workers)

    async def _open(self, stack: AsyncExitStack, config: StoreConfig) -> Store:
        """Open the store; interrupted in the middle of it, still see it open, so that it is closed
        before its directory is removed."""
        opening = asyncio.create_task(stack.enter_async_context(open_store(config)))
        stack.push_async_callback(asyncio.wait, (opening,))
        return await asyncio.shield(opening)

    async def _start(self, stack: AsyncExitStack, folder: Path, name: str, *command: str) -> Child:
        child = await Child.start(folder, name, *command)
        stack.push_async_callback(child.stop)
        return child

    async def _send(self, stage: _Stage, stack: AsyncExitStack) -> Result:
        """Submit the campaign, watch it to its end, drain the workers and collect the account."""
        sending = await self._start(
            stack, stage.folder, "send", "send", str(stage.folder / "campaign.csv"),
            "--config", str(stage.folder / "dispatcher.toml"), "--channel", "sms",
            "--from", "shop", "--text", campaign.TEXT, "--json",
        )  # fmt: skip
        submitting = asyncio.create_task(sending.line())
        try:
            await self._watch(stage, submitting)
        finally:
            submitting.cancel()
        for worker in stage.workers:
            await worker.stop()
        said = msgspec.json.decode(submitting.result(), type=_Said) if submitting.done() else None
        return await self._collect(stage, said)

    async def _watch(self, stage: _Stage, submitting: asyncio.Task[str]) -> None:
        """Until every message has its outcome, or the time is up. Raises ChildDied."""
        with View(self._console, _LANES, len(self._recipients)) as view:
            while True:
                sample = await _look(stage.store)
                view.show(sample)
                if submitting.done():
                    submitting.result()
                    if sample.finished():
                        return
                if time.monotonic() >= self._deadline:
                    return
                stage.check()
                await asyncio.sleep(REDRAW)

    async def _collect(self, stage: _Stage, said: _Said | None) -> Result:
        view = (await _look(stage.store)).batch
        if view is None:
            raise DispatcherError("nothing was submitted in time; allow more with --seconds")
        submitted = len(self._recipients)
        records = await stage.store.inspector.records(view.id, range(submitted))
        arrivals = await asyncio.to_thread(_journal, stage.url)
        accepted, rejected = (said.accepted, said.rejected) if said else (view.total, 0)
        verdict = judge(self._recipients, accepted, view.counts, records, arrivals)
        return Result(submitted, accepted, rejected, view, records, arrivals, verdict)


async def _look(store: Store) -> Sample:
    inspector = store.inspector
    batches = await inspector.batches()
    batch = await inspector.batch(batches[0]) if batches else None
    return Sample(await inspector.lanes(_LANES), batch)


def _journal(url: str) -> list[Arrival]:
    """All that the simulator has seen, in order of arrival."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request("GET", "/_/journal")
        answer = connection.getresponse()
        decoder = msgspec.json.Decoder(Arrival)
        return sorted(map(decoder.decode, answer), key=lambda one: one.arrived_ns)
    finally:
        connection.close()
