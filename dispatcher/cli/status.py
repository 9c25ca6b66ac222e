"""`dispatcher status`: totals, one batch, or the whole story of one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.running import run
from dispatcher.engine.views import batch_view, message
from dispatcher.errors import InvalidMessage, NotFound, UsageError
from dispatcher.messages import Status, is_ulid, parse_message_id
from dispatcher.settings import Config
from dispatcher.store.inspector import Inspector
from dispatcher.store.opening import open_store

SHOWN_AT_ZERO = ("total", "queued", "sent", "workers")


@click.command()
@config_option
@click.argument("name", metavar="[BATCH | MESSAGE]", required=False)
@json_option
@click.pass_obj
def status(state: State, name: str | None, as_json: bool) -> int:
    """Show totals, the counts of a batch, or the story of a message.

    \b
    Example: dispatcher status 01JD4Z3C7V9M2N8Q5R6S7T8V9W
    """
    config = load_config(state)
    if name is not None:
        _check(name)
    found = run(_find(config, name))
    if found is None:
        raise NotFound(f"{name} is not known in this store")
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        _print(found)
    return 0


def _check(name: str) -> None:
    if is_ulid(name):
        return
    try:
        parse_message_id(name)
    except InvalidMessage:
        raise UsageError(f"{name!r} is neither a batch nor a message id") from None


async def _find(config: Config, name: str | None) -> dict[str, Any] | None:
    async with open_store(config.store) as store:
        if name is None:
            return await _totals(store.inspector)
        if "-" in name:
            return await message(store.inspector, name)
        view = await store.inspector.batch(name)
        return None if view is None else batch_view(view)


async def _totals(inspector: Inspector) -> dict[str, Any]:
    """All batches together."""
    counts = {known.word: 0 for known in Status}
    total = batches = 0
    for name in await inspector.batches():
        view = await inspector.batch(name)
        if view is not None:
            total, batches = total + view.total, batches + 1
            for status_name, count in view.counts.items():
                counts[status_name] += count
    return {
        "total": total,
        **counts,
        "batches": batches,
        "leaving": await inspector.leaving(),
        "workers": await inspector.workers(),
    }


def _print(found: Mapping[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in found.items():
        for name, shown in _lines(key, value):
            table.add_row(name, shown)
    Console(highlight=False).print(table)


def _lines(key: str, value: Any) -> list[tuple[str, str]]:
    if value in (None, [], {}) or (value == 0 and key not in SHOWN_AT_ZERO):
        return []
    if isinstance(value, list):
        return [
            (f"{key} {at}", "  ".join(str(part) for part in item.values() if part))
            for at, item in enumerate(value, 1)
        ]
    if isinstance(value, dict):
        return [(f"  {name}", str(part)) for name, part in value.items() if part is not None]
    return [(key, f"{value:,}" if isinstance(value, int) else str(value))]
