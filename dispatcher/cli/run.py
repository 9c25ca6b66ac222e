"""`dispatcher run`: the HTTP API and its workers, as one tree of processes.

The API is this process, every worker a child of its own: reading a call of 10,000 recipients must
not move the slots at which messages are sent.
"""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import click

from dispatcher.cli import sandbox
from dispatcher.cli.crew import Crew, end, start
from dispatcher.cli.options import State, config_option, config_path, require_providers
from dispatcher.cli.running import run as run_loop
from dispatcher.cli.running import start_log, stop_on_signals
from dispatcher.config import VARIABLE_PREFIX, Config, load
from dispatcher.errors import DispatcherError
from dispatcher.web.app import Api

Hint: TypeAlias = Callable[[str], str]


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
    crew, service = Crew(path, config), Api(config)
    start_log(config.log)
    url = await service.start(config.api.host, config.api.port)
    click.echo(f"listening on {url}")
    if hint is not None:
        click.echo(hint(url))
    workers = asyncio.create_task(crew.run(stop, hangup))
    try:
        await service.run(stop)
    finally:
        stop.set()
        await workers
