"""`dispatcher demo`: real campaigns on the embedded store, against simulated providers."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from dispatcher.cli import demo_campaign as campaign
from dispatcher.cli.demo_account import Said, collect
from dispatcher.cli.demo_child import STORE
from dispatcher.cli.demo_codes import Codes
from dispatcher.cli.demo_process import Child, ChildDied
from dispatcher.cli.demo_setup import Accounts, write_config, write_simulator
from dispatcher.cli.demo_summary import Result, print_summary
from dispatcher.cli.demo_view import View
from dispatcher.cli.demo_watch import Watch
from dispatcher.cli.running import run, stop_on_signals
from dispatcher.config import load
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
    help="Text messages; half as many e-mails, and 15 one-time codes per thousand.",
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
    """Send text messages and e-mails to eleven carriers through providers that fail, while an
    application posts urgent one-time codes.

    Everything is real but the providers: an embedded store, worker processes, the HTTP API, files
    for `dispatcher send`. The end is an account of every message; the exit code is 1 when one is
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


@dataclass(slots=True)
class _Stage:
    """The store and the processes of one demo, the simulators' URLs and the `senders` of the
    campaigns by channel."""

    folder: Path
    store: Store
    simulators: list[Child]
    urls: dict[str, str]
    api: Child
    api_url: str
    workers: list[Child]
    senders: dict[str, Child] = field(default_factory=dict)

    def check(self) -> None:
        """Raises ChildDied when a process has ended that should not have."""
        for child in (*self.simulators, self.api, *self.workers):
            child.check()


class Demo:
    """One run of the demo; `deadline` is on the monotonic clock."""

    def __init__(self, messages: int, workers: int, deadline: float) -> None:
        self._messages = messages
        self._recipients = {
            "sms": campaign.recipients(messages, campaign.OPERATORS),
            "email": campaign.recipients(campaign.emails(messages), campaign.MAILBOXES),
        }
        to = campaign.code_recipients(campaign.codes(messages))
        self._codes = Codes(to, campaign.seconds(messages))
        self._accounts = Accounts.create()
        self._workers = workers
        self._deadline = deadline
        self._console = Console(highlight=False, markup=False)

    async def run(self) -> int:
        """The whole demo; its exit code. Raises ChildDied."""
        workers = f"{self._workers} worker" + ("s" if self._workers > 1 else "")
        sms, emails = (len(to) for to in self._recipients.values())
        self._console.print(
            f"{sms:,} text messages, {emails:,} e-mails, {len(self._codes.recipients):,} "
            f"one-time codes to {len(_LANES)} carriers:\n"
            f"{workers}, API, embedded store, simulated Twilio and SendGrid"
        )
        result = await self.play()
        print_summary(self._console, result)
        return 1 if result.faults else 0

    async def play(self) -> Result:
        """Send everything and collect its account; nothing is left of it. Raises ChildDied."""
        with tempfile.TemporaryDirectory(
            prefix="dispatcher-demo-", ignore_cleanup_errors=True
        ) as folder:
            async with AsyncExitStack() as stack:
                stage = await self._set_up(Path(folder), stack)
                return await self._send(stage, stack)

    async def _set_up(self, folder: Path, stack: AsyncExitStack) -> _Stage:
        config = str(folder / "dispatcher.toml")
        simulators = {
            channel: await self._simulate(stack, folder, channel) for channel in self._recipients
        }
        urls = {channel: await _address(child) for channel, child in simulators.items()}
        write_config(Path(config), folder / STORE, urls, self._accounts)
        store = await self._open(stack, load(Path(config), {}, {}).store)
        names = [f"worker {number}" for number in range(1, self._workers + 1)]
        workers = [
            await self._start(stack, folder, name, "worker", "--config", config)
            for name in (names if self._workers > 1 else ["worker"])
        ]
        api = await self._start(stack, folder, "api", "api", "--config", config, "--port", "0")
        return _Stage(
            folder, store, [*simulators.values()], urls, api, await _address(api), workers
        )

    async def _simulate(self, stack: AsyncExitStack, folder: Path, channel: str) -> Child:
        """Start the provider of a channel."""
        settings = folder / f"{channel}.json"
        write_simulator(settings, channel, self._messages, self._accounts)
        return await self._start(
            stack, folder, f"{channel} simulator",
            "simulator", "--port", "0", "--settings", str(settings),
        )  # fmt: skip

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
        """Submit everything, watch it to its end, drain the workers and collect the account."""
        await self._submit(stage, stack)
        submitting = {
            channel: asyncio.create_task(sender.line()) for channel, sender in stage.senders.items()
        }
        posting = asyncio.create_task(self._codes.post(stage.api_url, self._accounts.token))
        watch = Watch(stage.store.inspector, _LANES, self._codes)
        tasks: list[asyncio.Task[Any]] = [*submitting.values(), posting]
        try:
            await self._watch(stage, watch, tasks)
            self._codes.stop()
            await posting
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for child in (stage.api, *stage.workers):
            await child.stop()
        said = {name: _said(task) for name, task in submitting.items()}
        return await collect(stage.store.inspector, stage.urls, self._recipients, said, self._codes)

    async def _submit(self, stage: _Stage, stack: AsyncExitStack) -> None:
        """Start to submit both campaigns."""
        html = stage.folder / "mail.html"
        html.write_text(campaign.HTML, encoding="utf-8")
        extra = {"sms": (), "email": ("--subject", campaign.SUBJECT, "--html", str(html))}
        for channel, to in self._recipients.items():
            file = stage.folder / f"{channel}.csv"
            campaign.write_campaign(file, to)
            stage.senders[channel] = await self._start(
                stack, stage.folder, f"send {channel}", "send", str(file),
                "--config", str(stage.folder / "dispatcher.toml"), "--channel", channel,
                "--from", campaign.SENDER, "--text", campaign.TEXT, *extra[channel], "--json",
            )  # fmt: skip

    async def _watch(self, stage: _Stage, watch: Watch, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Until every message has its outcome, or the time is up. Raises ChildDied."""
        sizes = {channel: len(to) for channel, to in self._recipients.items()}
        with View(self._console, _LANES, sizes, len(self._codes.recipients)) as view:
            while True:
                submitted = all(task.done() for task in tasks)
                sample = await watch.look(sizes)
                view.show(sample)
                stage.check()
                for task in tasks:
                    if task.done():
                        task.result()
                if (submitted and sample.finished()) or time.monotonic() >= self._deadline:
                    return
                await asyncio.sleep(REDRAW)


async def _address(server: Child) -> str:
    """The URL that ends the first line of a server."""
    return (await server.line()).rpartition(" ")[2]


def _said(sending: asyncio.Task[str]) -> Said | None:
    """What `send` printed; None when it was cut short."""
    if sending.cancelled():
        return None
    return msgspec.json.decode(sending.result(), type=Said)
