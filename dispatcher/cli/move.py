"""`dispatcher move`: what waits in lanes goes to another provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from dispatcher.cli.completing import complete_lane
from dispatcher.cli.operating import acting, counted, print_json
from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.running import run
from dispatcher.engine.ingest import Ingest
from dispatcher.engine.lane_states import lane_pattern
from dispatcher.engine.moving import Mover, move_lanes
from dispatcher.engine.runtime import create_providers
from dispatcher.settings import Config
from dispatcher.store.moving import Moving
from dispatcher.store.opening import open_store


@click.command("move")
@config_option
@click.argument("lane", shell_complete=complete_lane)
@click.option("--to", "provider", required=True, metavar="PROVIDER", help="Where to.")
@json_option
@click.pass_obj
def move(state: State, lane: str, provider: str, as_json: bool) -> int:
    """Take what waits in LANE, also for a later time, to the lanes of another provider; tenants,
    classes and times stay, limits and senders are those of the new provider. Interrupted, it can
    be run again. Exit code 1 when something had to stay.

    \b
    Example: dispatcher move 'twilio-old/*' --to twilio-eu
    """
    done = run(_move(load_config(state), lane_pattern(lane), provider))
    if as_json:
        print_json(done)
    else:
        _print(done)
    return 1 if done["left"] else 0


async def _move(config: Config, pattern: str, provider: str) -> dict[str, Any]:
    ingest = Ingest(config, create_providers(config))
    action = acting("move", pattern, f"to {provider}")
    async with open_store(config.store) as store:
        moving = Moving(store.client, store.keys, store.confirming)
        mover = Mover(ingest, moving, provider, action)
        return await move_lanes(store.inspector, mover, pattern)


def _print(done: Mapping[str, Any]) -> None:
    click.echo(f"{counted(done['messages'], 'message')} moved")
    for lane, count in done["lanes"].items():
        click.echo(f"  {count:>9,}  {lane}")
    for reason, count in done["left"].items():
        click.echo(f"  {count:>9,}  stay: {reason}")
    if done["held"]:
        click.echo(f"  {done['held']:>9,}  are with a worker, which sends or returns them")
