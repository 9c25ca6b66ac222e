"""`dispatcher lanes`: what waits in every lane, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.table import Table

from dispatcher.cli.completing import complete_lane
from dispatcher.cli.operating import clock_text, counted, print_json, print_table
from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.running import run
from dispatcher.engine.lane_states import LaneStates, lane_pattern, lane_states
from dispatcher.messages import CLASSES
from dispatcher.settings import Config
from dispatcher.store.opening import open_store


@click.command()
@config_option
@click.argument("lane", required=False, shell_complete=complete_lane)
@json_option
@click.pass_obj
def lanes(state: State, lane: str | None, as_json: bool) -> None:
    """Show every lane that holds messages, or those of LANE (patterns with * are allowed): what
    waits by class, what was sent, and what holds it back.

    \b
    Example: dispatcher lanes
             dispatcher lanes 'twilio-eu/sms/us*'
    """
    pattern = "*" if lane is None else lane_pattern(lane)
    found = run(_find(load_config(state), pattern))
    if as_json:
        print_json(found._asdict())
    else:
        _print(found)


async def _find(config: Config, pattern: str) -> LaneStates:
    async with open_store(config.store) as store:
        return await lane_states(store.inspector, config.providers, pattern)


def _print(found: LaneStates) -> None:
    if found.lanes:
        print_table(_table(found))
    total = sum(item["waiting"] for item in found.lanes)
    click.echo(f"{counted(total, 'message')} in {counted(len(found.lanes), 'lane')}")
    if any(item["orphaned"] for item in found.lanes):
        click.echo("orphaned: no worker serves it; dispatcher move LANE --to PROVIDER")
    for item in found.suspended:
        until = f"until {clock_text(item['until'])}" if item["until"] else "until resumed"
        click.echo(f"suspended {until}: {item['lane']} ({item['reason']})")


def _table(found: LaneStates) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("lane", overflow="fold")
    for name in (*CLASSES, "sent"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("held by", overflow="fold")
    for item in found.lanes:
        depth = [f"{n:,}" if (n := item["depth"][name]) else "" for name in CLASSES]
        table.add_row(item["lane"], *depth, f"{item['sent']:,}", "\n".join(_notes(item)))
    return table


def _notes(item: Mapping[str, Any]) -> Iterator[str]:
    if item["orphaned"]:
        yield "orphaned"
    if item["suspended"]:
        until = f"until {clock_text(item['suspended_until'])}" if item["suspended_until"] else ""
        yield f"suspended {until or 'until resumed'}"
    elif not item["orphaned"] and item["waiting_for"] and item["waiting"]:
        yield item["waiting_for"]
