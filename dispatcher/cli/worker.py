"""`dispatcher worker`: claims and sends until told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import click

from dispatcher.cli.crew import Crew
from dispatcher.cli.options import (
    State,
    config_option,
    config_path,
    load_config,
    require_providers,
)
from dispatcher.cli.running import run, start_log, stop_on_signals
from dispatcher.config import Config
from dispatcher.engine.runtime import Worker, create_providers
from dispatcher.errors import DispatcherError
from dispatcher.store.opening import Store, open_store
from dispatcher.web.probes import serve_probes

log = logging.getLogger(__name__)


@click.command()
@config_option
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Worker processes to run, instead of [worker] processes.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Metrics and probes of the first, instead of [worker] port; 0 = off.",
)
@click.option("--member", default="", hidden=True)
@click.pass_obj
def worker(state: State, processes: int | None, port: int | None, member: str) -> None:
    """Claim queued messages and send them, within every limit.

    SIGTERM and Ctrl-C drain: nothing new is claimed, what is in flight ends, the rest goes back to
    the queue. SIGHUP reads the configuration again.

    Above one process, this one only keeps the workers alive: one that dies is started again and
    what it held is put back at once. Each serves metrics and probes on a port of its own, counted
    up from the first.

    \b
    Example: dispatcher worker --config dispatcher.toml --processes 2
    """
    read = partial(_read, state, {"worker.processes": processes, "worker.port": port})
    config = read()
    start_log(config.log)
    if config.worker.processes > 1:
        return run(_lead(config, state))
    if member:
        _sign_log(member)
    gc.freeze()  # what is loaded by now stays: collections need not look at it
    run(_work(config, read, member))


def _read(state: State, flags: Mapping[str, Any]) -> Config:
    """A configuration that can send. Raises ConfigError."""
    config = load_config(state, flags)
    require_providers(config, state)
    create_providers(config)
    return config


def _sign_log(member: str) -> None:
    """Every line says which worker of its crew wrote it: they share one stderr."""
    number = member.partition(".")[0]

    def sign(record: logging.LogRecord) -> bool:
        record.msg = f"worker {number}: {record.msg}"
        return True

    for handler in logging.getLogger("dispatcher").handlers:
        handler.addFilter(sign)


async def _lead(config: Config, state: State) -> None:
    """Run the workers as processes of their own."""
    hangup = asyncio.Event()
    stop = stop_on_signals(hangup.set)
    await Crew(config_path(state), config).run(stop, hangup)


async def _work(config: Config, read: Callable[[], Config], member: str) -> None:
    reload = asyncio.Event()
    stop = stop_on_signals(reload.set)
    async with serve_probes(config.worker.port) as probes:
        while not stop.is_set():
            async with AsyncExitStack() as stack:
                store = await _opened(stack, config, stop)
                probes.opened(store)
                served = config.store
                while store is not None and config.store == served and not stop.is_set():
                    await _until(Worker(config, store, member), stop, reload)
                    if not stop.is_set():
                        reload.clear()
                        config = _reloaded(config, read)
                probes.opened(None)


async def _opened(stack: AsyncExitStack, config: Config, stop: asyncio.Event) -> Store | None:
    """The store, however long it takes; None when told to stop before that."""
    opening = asyncio.create_task(stack.enter_async_context(open_store(config.store, None)))
    stopped = asyncio.create_task(stop.wait())
    first = asyncio.FIRST_COMPLETED
    try:
        if not (await asyncio.wait((opening, stopped), timeout=1.0, return_when=first))[0]:
            log.warning("the store (%s) does not answer yet; waiting", config.store.address)
            await asyncio.wait((opening, stopped), return_when=first)
        return opening.result() if opening.done() else None
    finally:
        for task in (opening, stopped):
            task.cancel()
        await asyncio.wait((opening, stopped))


async def _until(worker: Worker, stop: asyncio.Event, reload: asyncio.Event) -> None:
    """Work until one of the two events, then drain."""
    end = asyncio.Event()
    watchers = [asyncio.create_task(event.wait()) for event in (stop, reload)]
    for watcher in watchers:
        watcher.add_done_callback(lambda _: end.set())
    try:
        await worker.run(end)
    finally:
        for watcher in watchers:
            watcher.cancel()


def _reloaded(config: Config, read: Callable[[], Config]) -> Config:
    """The configuration read again; the one in force where the new one is wrong."""
    try:
        new = read()
    except DispatcherError as error:
        log.error("configuration not reloaded, the old one stays: %s", error)
        return config
    log.info("configuration reloaded")
    return new
