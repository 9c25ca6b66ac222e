"""`dispatcher explain`: the way a message to an address would take, every limit it would meet, and
when it would go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from dispatcher.cli.figures import rate_text, span_text
from dispatcher.cli.options import (
    State,
    check_tenant,
    config_option,
    json_option,
    load_config,
    require_providers,
)
from dispatcher.cli.running import run
from dispatcher.engine.explanation import Choice, Explanation, explain
from dispatcher.engine.ingest import Ingest
from dispatcher.engine.runtime import create_providers
from dispatcher.engine.views import limit_view
from dispatcher.engine.waiting import Overview, binding, overview, reason, standing_of, turns
from dispatcher.messages import CHANNELS
from dispatcher.policy.routing import Limits
from dispatcher.store.limit_views import LimitView, unused_view
from dispatcher.store.opening import Store, open_store


@click.command("explain")
@config_option
@click.argument("address")
@click.option("--channel", type=click.Choice(CHANNELS), help="Else email with an @, sms without.")
@click.option("--from", "sender", metavar="ID", help="Configured sender, or as is.")
@click.option("--tenant", default="default", show_default=True, help="For whom it is sent.")
@json_option
@click.pass_obj
def explain_(
    state: State,
    address: str,
    channel: str | None,
    sender: str | None,
    tenant: str,
    as_json: bool,
) -> None:
    """Say which carrier, providers, lanes and limits a message to ADDRESS would meet, which limit
    binds now, and when the message would go. Nothing is sent.

    \b
    Example: dispatcher explain +4915112345678 --from shop
    """
    config = load_config(state)
    require_providers(config, state)
    check_tenant(config, tenant)
    ingest = Ingest(config, create_providers(config))
    chosen = channel or ("email" if "@" in address else "sms")
    found = run(_find(ingest, explain(ingest, chosen, address, sender, tenant)))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        _print(found)


async def _find(ingest: Ingest, explained: Explanation) -> dict[str, Any]:
    """What was explained, and how its lanes stand in the store."""
    async with open_store(ingest.config.store) as store:
        seen = await overview(store.inspector, ingest.limits, ingest.config.providers)
        workers = await store.inspector.workers()
        choices = [
            await _choice(store, ingest.limits, seen, choice) for choice in explained.choices
        ]
    return {**explained._asdict(), "workers": workers, "choices": choices}


async def _choice(store: Store, limits: Limits, seen: Overview, choice: Choice) -> dict[str, Any]:
    if choice.refusal is not None:
        return {"provider": choice.provider, "refusal": choice.refusal}
    cell = store.at(choice.provider).name
    found = (_view(limits, seen, name, cell) for name in choice.limits)
    views = [view for view in found if view is not None]
    standing = await standing_of(store.inspector, choice.lane, views)
    last = binding(views, seen.now_us)
    return {
        **choice._asdict(),
        "limits": [_met(view, seen, view is last) for view in views],
        "waiting_for": reason(standing),
        "depth": standing.lane.depth,
        "seconds": turns(standing, seen.waiting),
    }


def _view(limits: Limits, seen: Overview, name: str, cell: str) -> LimitView | None:
    """What a cell has of a limit. One with `each` may be of a value nobody has used so far."""
    if name in seen.cells[cell]:
        return seen.cells[cell][name]
    limit = limits.define(name, seen.now_us, cell)
    return None if limit is None else unused_view(limit, seen.now_us)


def _met(view: LimitView, seen: Overview, binds: bool) -> dict[str, Any]:
    free_in = max(0, view.wake_us - seen.now_us) / 1e6
    return limit_view(view, seen.waiting.get(view.name, ())) | {"free_in": free_in, "binds": binds}


def _print(found: Mapping[str, Any]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{found['to']} by {found['channel']}")
    console.print(f"carrier  {found['carrier']} ({found['found_by']})")
    names = ", ".join(choice["provider"] for choice in found["choices"])
    console.print(f"route    {names} ({found['route']})")
    for choice in found["choices"]:
        console.print()
        if choice["refusal"] is not None:
            console.print(f"{choice['provider']}\n  left out: {choice['refusal']}")
            continue
        console.print(choice["lane"])
        if choice["limits"]:
            console.print(_limits(choice["limits"]))
        for name, text in _lines(choice):
            console.print(f"  {name:<10} {text}")
    if not found["workers"]:
        console.print("\nNo worker runs now: nothing goes before one starts.")


def _limits(met: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 0, 0, 2))
    table.add_column("limit", overflow="fold")
    for name in ("rate", "used", "free in"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for limit in met:
        table.add_row(
            limit["name"],
            rate_text(limit["rate"]),
            "" if limit["used"] is None else f"{limit['used']:.0%}",
            span_text(limit["free_in"]),
            "binds now" if limit["binds"] else "",
        )
    return table


def _lines(choice: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if choice["sender"] is not None:
        which = f", one of {choice['pool']} and always this one" if choice["pool"] > 1 else ""
        yield "sender", f"{choice['sender']}{which}"
    if choice["recipient"]:
        yield "recipient", f"each has {', '.join(choice['recipient'])} for itself"
    if choice["waiting_for"] is not None:
        yield "held by", choice["waiting_for"]
    yield "in front", _by_class({name: f"{n:,}" for name, n in choice["depth"].items()})
    turn = {name: span_text(seconds) for name, seconds in choice["seconds"].items()}
    yield "would go", _by_class({n: f"in about {t}" if t else "now" for n, t in turn.items()})


def _by_class(values: Mapping[str, str]) -> str:
    return " · ".join(f"{name} {value}" for name, value in values.items())
