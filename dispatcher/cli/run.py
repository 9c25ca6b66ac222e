"""`dispatcher run`: the HTTP API and its workers, as one tree of processes.

The API is this process, every worker a child of its own: reading a call of 10,000 recipients must
not move the slots at which messages are sent. A child that dies is started again; all of them end
with this process, however that ends: their stdin is a pipe from it that nobody writes to.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeAlias

import click

from dispatcher.cli import sandbox
from dispatcher.cli.options import State, config_option, config_path
from dispatcher.cli.running import run as run_loop
from dispatcher.cli.running import start_log, stop_on_signals
from dispatcher.cli.worker import require_providers
from dispatcher.config import VARIABLE_PREFIX, Config, load
from dispatcher.errors import DispatcherError
from dispatcher.web.app import Api

Hint: TypeAlias = Callable[[str], str]

log = logging.getLogger(__name__)

STOP_SECONDS = 60.0
"""How long a worker may drain before it is killed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that died is started again; doubled from one to the next."""


@click.command()
@config_option
@click.option("--sandbox", "in_sandbox", is_flag=True, help="Try it: simulated providers.")
@click.option("--host", help="Address to listen on instead of [api] host.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Instead of [api] port; 0 = any free one."
)
@click.pass_obj
def run(state: State, in_sandbox: bool, host: str | None, port: int | None) -> None:
    """Run the HTTP API and [worker] processes workers on this machine.

    SIGTERM and Ctrl-C end it: calls under way get their answers, workers drain. SIGHUP lets the
    workers read the configuration again. --sandbox needs no configuration and sends nothing to
    anybody: its providers are simulated and all it stores is removed at the end.

    \b
    Example: dispatcher run --sandbox
    """
    flags = {"api.host": host, "api.port": port}
    with ExitStack() as stack:
        folder = stack.enter_context(sandbox.folder()) if in_sandbox else None
        run_loop(_run(state, flags, folder))


async def _run(state: State, flags: Mapping[str, Any], folder: Path | None) -> None:
    hangup = asyncio.Event()
    stop = stop_on_signals(hangup.set)
    if folder is None:
        path = config_path(state)
        return await _serve(path, load(path, os.environ, flags), stop, hangup)
    for name in [name for name in os.environ if name.startswith(VARIABLE_PREFIX)]:
        del os.environ[name]  # what is set for another system does not hold in here
    simulator = await start("simulator", "--port", "0", stdout=PIPE)
    try:
        assert simulator.stdout is not None
        announced = (await simulator.stdout.readline()).decode().split()
        if not announced:
            raise DispatcherError("the simulator did not start")
        path = sandbox.write_config(folder, announced[-1])
        await _serve(path, load(path, {}, flags), stop, hangup, sandbox.hint)
    finally:
        await end(simulator)


async def _serve(
    path: Path, config: Config, stop: asyncio.Event, hangup: asyncio.Event, hint: Hint | None = None
) -> None:
    require_providers(config, {"config": str(path)})
    service = Api(config)
    start_log(config.log)
    url = await service.start(config.api.host, config.api.port)
    click.echo(f"listening on {url}")
    if hint is not None:
        click.echo(hint(url))
    crew = Crew(("worker", "--config", str(path)), config.worker.processes)
    workers = asyncio.create_task(crew.run(stop, hangup))
    try:
        await service.run(stop)
    finally:
        stop.set()
        await workers


class Crew:
    """Workers that are kept alive."""

    def __init__(self, command: Sequence[str], size: int) -> None:
        self._command = command
        self._size = size
        self._members: set[Process] = set()

    async def run(self, stop: asyncio.Event, hangup: asyncio.Event) -> None:
        """Keep all of them until `stop` is set, then let them drain."""
        keepers = [asyncio.create_task(self._keep(stop)) for _ in range(self._size)]
        relay = asyncio.create_task(self._relay(hangup))
        try:
            await asyncio.gather(*keepers)
        finally:
            relay.cancel()

    async def _keep(self, stop: asyncio.Event) -> None:
        pause, stopped = FIRST_PAUSE, asyncio.create_task(stop.wait())
        while not stop.is_set():
            member = await start(*self._command)
            self._members.add(member)
            ended = asyncio.create_task(member.wait())
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
            await end(member)
            await ended
            self._members.discard(member)
            if not stop.is_set():
                log.error("a worker ended with code %s, next in %g s", member.returncode, pause)
                await asyncio.wait((stopped,), timeout=pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _relay(self, hangup: asyncio.Event) -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            for member in self._members:
                member.send_signal(signal.SIGHUP)


async def start(*command: str, stdout: int | None = None) -> Process:
    """Start `dispatcher COMMAND` in a session of its own, so that Ctrl-C reaches only us."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *command, stdin=PIPE, stdout=stdout, start_new_session=True
    )


async def end(process: Process) -> None:
    """SIGTERM, and SIGKILL to what does not end by it."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _watch() -> None:
    """Ends this process as SIGTERM does once its parent is gone."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    from dispatcher.cli.main import main

    threading.Thread(target=_watch, daemon=True).start()
    sys.exit(main(sys.argv[1:]))
