"""`dispatcher audit`: which operator did what, when and why."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from dispatcher.cli.operating import clock_text, print_json, print_table
from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.running import run
from dispatcher.engine.views import action_view
from dispatcher.settings import Config
from dispatcher.store.opening import open_store

LISTED = 50


@click.command()
@config_option
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
def audit(state: State, most: int, as_json: bool) -> None:
    """Show what operators did, the latest first: the last 10,000 actions of 90 days.

    \b
    Example: dispatcher audit --limit 20
    """
    found = run(_find(load_config(state), most))
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no operator has done anything yet")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("when", no_wrap=True)
    for name in ("who", "what", "why"):
        table.add_column(name, overflow="fold")
    table.add_column("count", justify="right", no_wrap=True)
    for one in found:
        what = " ".join(filter(None, (one["what"], one["on"], one["detail"])))
        count = f"{one['affected']:,}"
        table.add_row(clock_text(one["at"]), one["who"], what, one["reason"], count)
    print_table(table)


async def _find(config: Config, most: int) -> list[dict[str, Any]]:
    async with open_store(config.store) as store:
        return [action_view(view) for view in await store.inspector.actions(most)]
