"""`dispatcher top`: what every lane does now, how fast, how much is left, and what is wrong."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import click
import msgspec
from rich.console import Console

from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.running import run, stop_on_signals
from dispatcher.cli.terminal import Terminal
from dispatcher.cli.top_screen import Look, draw, page, table
from dispatcher.cli.top_view import ORDERS, View, ordered, view_of, with_codes
from dispatcher.config import Config
from dispatcher.engine.overlook import overlook
from dispatcher.engine.trend import Trend
from dispatcher.errors import StoreUnavailable
from dispatcher.store.joining import open_survey
from dispatcher.store.opening import open_store
from dispatcher.store.survey import Survey

REFRESH_SECONDS = 1.0
REST = 4
"""Of very many lanes a view takes longer; so many times as long the store is left alone."""
LANES_WITH_CODES = 100
"""Lanes whose error codes are read: the first in the order, more than a screen has."""
PIPE_WIDTH = 120
"""Columns of a table that does not go to a terminal."""
SORTS = {name[0]: name for name in ORDERS} | {"s": "rate"}
"""Key → order."""


@click.command()
@config_option
@click.option("--once", is_flag=True, help="Print one view, of one second, and end.")
@click.option(
    "--sort", "order", type=click.Choice(list(ORDERS)), default="backlog", help="Order of lanes."
)
@json_option
@click.pass_obj
def top(state: State, once: bool, order: str, as_json: bool) -> None:
    """Show all lanes live: their rates against their limits, what waits and until when, errors by
    code, what is suspended or paused, the limits that bind, workers and the store.

    Keys: r, b, d, e, n sort by rate, backlog, drain, errors, name; arrows and pages scroll; q
    quits. With --json, or where the output is no terminal, it prints one view.

    \b
    Example: dispatcher top
             dispatcher top --once --sort rate
    """
    config = load_config(state)
    if as_json:
        view = run(_once(config, order))
        click.echo(msgspec.json.encode(view).decode())
    elif once or not sys.stdout.isatty():
        _print(run(_once(config, order)), order)
    else:
        run(_live(config, order))


class _Reader:
    """Reads a view, time after time."""

    def __init__(self, config: Config, survey: Survey, order: str) -> None:
        self._providers = frozenset(config.providers)
        self._survey = survey
        self._trend = Trend()
        self.order = order

    async def read(self) -> View:
        """Raises StoreUnavailable."""
        found = await overlook(self._survey, self._providers)
        self._trend.add(found)
        view = view_of(found, self._trend, self._providers)
        first = [line.lane for line in ordered(view.lanes, self.order)[:LANES_WITH_CODES]]
        self._trend.add_codes(await self._survey.errors(first))
        return with_codes(view, {lane: self._trend.codes(lane) for lane in first})


@asynccontextmanager
async def _reader(config: Config, order: str) -> AsyncIterator[_Reader]:
    async with open_store(config.store) as store:
        yield _Reader(config, open_survey(store.client, store.keys), order)


async def _once(config: Config, order: str) -> View:
    async with _reader(config, order) as reader:
        await reader.read()
        await asyncio.sleep(REFRESH_SECONDS)
        return await reader.read()


def _print(view: View, order: str) -> None:
    console = Console(highlight=False)
    width = console.width if console.is_terminal else PIPE_WIDTH
    console.width = width
    for line in table(view, order, width):
        console.print(line, no_wrap=True, overflow="ellipsis")


async def _live(config: Config, order: str) -> None:
    stop = stop_on_signals()
    async with _reader(config, order) as reader:
        await _Live(reader, stop).run()


class _Live:
    """The view on the terminal and the keys that steer it."""

    def __init__(self, reader: _Reader, stop: asyncio.Event) -> None:
        self._reader = reader
        self._stop = stop
        self._look = Look(reader.order)
        self._view: View | None = None
        self._trouble = ""
        self._terminal = Terminal(Console(highlight=False), self._press)

    async def run(self) -> None:
        """Until q is pressed or a signal comes."""
        loop = asyncio.get_running_loop()
        with self._terminal:
            loop.add_signal_handler(signal.SIGWINCH, self._show)
            reading = asyncio.create_task(self._keep_reading())
            stopped = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait([reading, stopped], return_when=asyncio.FIRST_COMPLETED)
            finally:
                reading.cancel()
                stopped.cancel()
                loop.remove_signal_handler(signal.SIGWINCH)
            with suppress(asyncio.CancelledError):
                await reading

    async def _keep_reading(self) -> None:
        while not self._stop.is_set():
            before = time.monotonic()
            try:
                self._view = await self._reader.read()
                self._trouble = ""
            except StoreUnavailable:
                self._trouble = "the store does not answer"
            self._show()
            took = time.monotonic() - before
            await asyncio.sleep(max(REFRESH_SECONDS, took * REST))

    def _show(self) -> None:
        if self._view is not None:
            width, height = self._terminal.size
            self._terminal.show(draw(self._view, self._look, width, height, self._trouble))

    def _press(self, key: str) -> None:
        if key == "q":
            self._stop.set()
        elif key in SORTS:
            self._look = Look(SORTS[key])
            self._reader.order = SORTS[key]
        else:
            self._scroll(key)
        self._show()

    def _scroll(self, key: str) -> None:
        width, height = self._terminal.size
        step = page(width, height)
        steps = {"up": -1, "down": 1, "page up": -step, "page down": step}
        last = len(self._view.lanes) - 1 if self._view is not None else 0
        first = 0 if key == "home" else self._look.first + steps.get(key, 0)
        self._look = self._look._replace(first=max(0, min(first, last)))
