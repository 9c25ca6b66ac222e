"""`dispatcher status`: totals, one batch, or the whole story of one message."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.running import run
from dispatcher.errors import UsageError
from dispatcher.messages import Lane, Status, is_ulid, parse_message_id
from dispatcher.settings import Config
from dispatcher.store.inspector import BatchView, Inspector
from dispatcher.store.opening import open_store


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
    if name is not None and "-" in name:
        parse_message_id(name)
    elif name is not None and not is_ulid(name):
        raise UsageError(f"{name!r} is neither a batch nor a message id")
    found = run(_find(config, name))
    if found is None:
        raise UsageError(f"{name} is not known in this store")
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        _print(found)
    return 0


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
    counts: dict[str, int] = {}
    total = batches = 0
    for name in await inspector.batches():
        view = await inspector.batch(name)
        if view is not None:
            total, batches = total + view.total, batches + 1
            for status_name, count in view.counts.items():
                counts[status_name] = counts.get(status_name, 0) + count
    return {"total": total, **counts, "batches": batches, "workers": await inspector.workers()}


def batch_view(view: BatchView) -> dict[str, Any]:
    """A batch as `status --json` prints it; the counts of the statuses add up to `total`."""
    return {
        "batch": view.id,
        "tenant": view.tenant,
        "channel": view.channel,
        "created_at": _time(view.created_us // 1000),
        "total": view.total,
        **view.counts,
        **view.events,
        "codes": view.codes,
    }


async def message(inspector: Inspector, name: str) -> dict[str, Any] | None:
    """A message with its attempts; None when its batch is not known."""
    batch, index = parse_message_id(name)
    view = await inspector.batch(batch)
    if view is None:
        return None
    known = (await inspector.records(batch, [index])).get(index)
    found = {"id": name, "status": "queued", "channel": view.channel, "tenant": view.tenant}
    created = {"created_at": _time(view.created_us // 1000)}
    if known is None:
        return found | created
    state, _, record = known
    if state is Status.SCHEDULED and record.due_ms <= time.time() * 1000:
        state = Status.QUEUED
    lane = Lane.parse(record.lane)
    waiting = state is Status.SCHEDULED
    return {
        **found,
        "status": state.word,
        "ref": record.ref,
        "to": record.to,
        "provider": lane.provider,
        "carrier": lane.carrier,
        "provider_id": record.provider_id,
        "error": {"code": record.code, "detail": record.detail} if record.code else None,
        "due_at": _time(record.due_ms) if waiting else None,
        "attempts": [
            {"at": _time(a.at_ms), "provider": a.provider, "code": a.code} for a in record.history
        ],
        "attempts_used": record.attempts,
        **created,
        "updated_at": _time(record.at_ms),
    }


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _print(found: Mapping[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in found.items():
        for name, shown in _lines(key, value):
            table.add_row(name, shown)
    Console(highlight=False).print(table)


def _lines(key: str, value: Any) -> list[tuple[str, str]]:
    if value in (None, [], {}) or (value == 0 and key not in ("total", "queued", "sent")):
        return []
    if isinstance(value, list):
        return [
            (f"{key} {at}", "  ".join(str(part) for part in item.values() if part))
            for at, item in enumerate(value, 1)
        ]
    if isinstance(value, dict):
        return [(f"  {name}", str(part)) for name, part in value.items() if part is not None]
    return [(key, f"{value:,}" if isinstance(value, int) else str(value))]
