"""`dispatcher dead`: what will not be sent by itself or may have been sent; list it, look at it,
send it again, say what became of it or forget it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dispatcher.cli.operating import acting, clock_text, counted, print_json, print_table
from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.resolve import resolve
from dispatcher.cli.running import run
from dispatcher.cli.selecting import all_option, check_meant, dry_run_option, report, selecting
from dispatcher.engine.letters import (
    Replay,
    Selection,
    check_ids,
    check_selection,
    drop,
    even_interval,
    letter_story,
    letter_view,
    newest,
    tally_view,
)
from dispatcher.errors import NotFound
from dispatcher.settings import Config
from dispatcher.store.letters import Letters
from dispatcher.store.opening import Store, open_store
from dispatcher.store.operations import Action

LISTED = 50


@click.group()
def dead() -> None:
    """List, show, replay or drop dead letters: messages that failed for good, and those of which
    nobody knows whether they were sent (--code unknown) until somebody says (resolve).

    \b
    Example: dispatcher dead list --provider twilio-eu --since 2h
             dispatcher dead replay --code 30008 --rate 10/s --dry-run
    """


dead.add_command(resolve)


@dead.command("list")
@config_option
@selecting
@click.option(
    "--limit",
    "most",
    default=LISTED,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="How many.",
)
@json_option
@click.pass_obj
def list_(state: State, selection: Selection, most: int, as_json: bool) -> None:
    """List dead letters, the newest first.

    \b
    Example: dispatcher dead list --code unknown --since 24h
    """
    found = run(_list(load_config(state), selection, most))
    if as_json:
        print_json(found)
    else:
        _print(found, most)


@dead.command(short_help="Show one letter: whom it was for, and why it is here.")
@config_option
@click.argument("message")
@json_option
@click.pass_obj
def show(state: State, message: str, as_json: bool) -> None:
    """Show the letter of MESSAGE: whom it was for, what it said, and why it is here.

    \b
    Example: dispatcher dead show 01JD4Z3C7V9M2N8Q5R6S7T8V9W-17
    """
    check_ids([message])
    found = run(_show(load_config(state), message))
    if as_json:
        print_json(found)
    else:
        _print_story(found)


@dead.command(short_help="Send dead letters again, at a rate if need be.")
@config_option
@click.argument("messages", metavar="[MESSAGE]...", nargs=-1)
@selecting
@all_option
@click.option("--rate", metavar="RATE", help="How fast, e.g. 10/s; else as fast as limits allow.")
@dry_run_option
@json_option
@click.pass_obj
def replay(
    state: State,
    selection: Selection,
    everything: bool,
    rate: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Send dead letters again, beside the live traffic and within all limits. With --rate each
    message waits in the store for its time: this command need not stay. What may have been sent
    (--code unknown) may arrive twice.

    \b
    Example: dispatcher dead replay --code 30008 --since 2h --rate 10/s
    """
    interval_us = 0.0 if rate is None else even_interval(rate, "--rate")
    check_meant(selection, everything or dry_run)
    action = acting("dead replay", selection.words(), "" if rate is None else f"at {rate}")
    done = run(_replay(load_config(state), selection, interval_us, action, dry_run))
    return report(done, "replayed", as_json)


@dead.command("drop")
@config_option
@click.argument("messages", metavar="[MESSAGE]...", nargs=-1)
@selecting
@all_option
@dry_run_option
@json_option
@click.pass_obj
def drop_(
    state: State, selection: Selection, everything: bool, dry_run: bool, as_json: bool
) -> int:
    """Forget dead letters: they can be replayed no more. Their messages keep their status.

    \b
    Example: dispatcher dead drop --code 21211 --since 24h --dry-run
    """
    check_meant(selection, everything or dry_run)
    done = run(
        _drop(load_config(state), selection, acting("dead drop", selection.words()), dry_run)
    )
    return report(done, "dropped", as_json)


@asynccontextmanager
async def _opened(config: Config, selection: Selection) -> AsyncIterator[tuple[Store, Letters]]:
    async with open_store(config.store) as store:
        await check_selection(store.inspector, config.providers, selection)
        yield store, Letters(store.client, store.keys)


async def _list(config: Config, selection: Selection, most: int) -> dict[str, Any]:
    async with _opened(config, selection) as (_, letters):
        found = await newest(letters, selection, most)
        return {"letters": [letter_view(one) for one in found], "total": await letters.count()}


async def _show(config: Config, message: str) -> dict[str, Any]:
    async with open_store(config.store) as store:
        found = await Letters(store.client, store.keys).find([message])
    if not found:
        raise NotFound(f"{message} is not among the dead letters; `dispatcher status` knows more")
    return letter_story(found[0])


async def _replay(
    config: Config, selection: Selection, interval_us: float, action: Action, dry_run: bool
) -> dict[str, Any]:
    async with _opened(config, selection) as (store, letters):
        now_us = await store.inspector.now_us()
        replay = Replay(letters, now_us, interval_us, config.retention.status)
        return tally_view(await replay.run(selection, action, dry_run), dry_run)


async def _drop(
    config: Config, selection: Selection, action: Action, dry_run: bool
) -> dict[str, Any]:
    async with _opened(config, selection) as (_, letters):
        return tally_view(await drop(letters, selection, action, dry_run), dry_run)


def _print(found: Mapping[str, Any], most: int) -> None:
    if not found["letters"]:
        click.echo(f"none of {counted(found['total'], 'dead letter')}" if found["total"] else
                   "no dead letters")  # fmt: skip
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("message", no_wrap=True)
    table.add_column("since", no_wrap=True)
    for name in ("code", "provider", "why"):
        table.add_column(name, overflow="fold")
    for one in found["letters"]:
        code = one["code"] if one["status"] == "dead" else f"{one['code']} (unknown)".strip()
        at, why = clock_text(one["at"]), " ".join(one["detail"].split())
        table.add_row(one["message"], at, code, one["provider"], why)
    print_table(table)
    if any(one["status"] == "unknown" for one in found["letters"]):
        click.echo("unknown: ask the provider; dispatcher dead resolve MESSAGE --outcome OUTCOME")
    shown = len(found["letters"])
    if shown == most:
        click.echo(f"the latest {shown:,} of {found['total']:,}; --limit N shows more")


def _print_story(found: Mapping[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in found.items():
        if name == "attempts":
            for at, one in enumerate(value, 1):
                table.add_row(f"attempt {at}", f"{one['at']}  {one['provider']}  {one['code']}")
        elif isinstance(value, dict):
            for key, part in value.items():
                table.add_row(f"  {key}", str(part))
        elif value not in (None, ""):
            table.add_row(name, str(value))
    Console(highlight=False, markup=False).print(table)
