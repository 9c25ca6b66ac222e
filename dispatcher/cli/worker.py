"""`dispatcher worker`: claims and sends until told to stop."""

from __future__ import annotations

import asyncio
import logging

import click

from dispatcher.cli.options import State, config_option, config_path, load_config
from dispatcher.cli.running import run, start_log, stop_on_signals
from dispatcher.config import Config
from dispatcher.engine.runtime import Worker, create_providers
from dispatcher.errors import ConfigError, DispatcherError
from dispatcher.store.opening import open_store

log = logging.getLogger(__name__)


@click.command()
@config_option
@click.pass_obj
def worker(state: State) -> None:
    """Claim queued messages and send them, within every limit.

    SIGTERM and Ctrl-C drain: nothing new is claimed, what is in flight ends, the rest goes back to
    the queue. SIGHUP reads the configuration again.

    \b
    Example: dispatcher worker --config dispatcher.toml
    """
    config = load_config(state)
    require_providers(config, state)
    create_providers(config)
    start_log(config.log)
    run(_work(config, state))


def require_providers(config: Config, state: State) -> None:
    """Raises ConfigError for a configuration that can send nothing."""
    if not config.providers:
        raise ConfigError(f"{config_path(state)}: no [providers.NAME] table, nothing can be sent")


async def _work(config: Config, state: State) -> None:
    reload = asyncio.Event()
    stop = stop_on_signals(reload.set)
    while not stop.is_set():
        reload.clear()
        async with open_store(config.store, patience=None) as store:
            await _until(Worker(config, store), stop, reload)
        if not stop.is_set():
            config = _reloaded(config, state)


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


def _reloaded(config: Config, state: State) -> Config:
    """The configuration read again; the one in force where the new one is wrong."""
    try:
        new = load_config(state)
        require_providers(new, state)
        create_providers(new)
    except DispatcherError as error:
        log.error("configuration not reloaded, the old one stays: %s", error)
        return config
    log.info("configuration reloaded")
    return new
