"""`dispatcher suspend` and `resume`: stop lanes on every worker at once, and let them go on."""

from __future__ import annotations

from typing import Any

import click

from dispatcher.cli.completing import complete_lane
from dispatcher.cli.operating import acting, clock_text, counted, print_json
from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.running import run
from dispatcher.engine.lane_states import lane_pattern, lasting, lasting_words, one_line, suspend
from dispatcher.errors import DispatcherError
from dispatcher.settings import Config
from dispatcher.store.inspector import Inspector
from dispatcher.store.opening import open_store
from dispatcher.store.operations import Action, Operations


class NotSuspended(DispatcherError):
    """Nothing suspends these lanes."""


@click.command("suspend")
@config_option
@click.argument("lane", shell_complete=complete_lane)
@click.option("--reason", required=True, metavar="TEXT", help="Why; shown wherever it holds.")
@click.option(
    "--for",
    "lasts",
    default="1h",
    show_default=True,
    metavar="TIME",
    help='E.g. 30m, or "forever".',
)
@json_option
@click.pass_obj
def suspend_(state: State, lane: str, reason: str, lasts: str, as_json: bool) -> None:
    """Let nothing of LANE pass on any worker, until --for has passed or it is resumed. LANE is a
    lane, the beginning of one (a provider), or a pattern with *; lanes that come later are among
    them. What waits is kept.

    \b
    Example: dispatcher suspend 'twilio-eu/sms/us*' --reason "carrier trouble" --for 30m
    """
    seconds, why = lasting(lasts, "--for"), one_line(reason, "--reason")
    action = acting("suspend", lane_pattern(lane), lasting_words(lasts), why)
    done = run(_suspend(load_config(state), seconds, action))
    if as_json:
        print_json(done)
        return
    until = f"until {clock_text(done['until'])}" if done["until"] else "until resumed"
    click.echo(f"{done['lane']}: suspended {until}, {_lanes(done['lanes'])}")


@click.command()
@config_option
@click.argument("lane", shell_complete=complete_lane)
@json_option
@click.pass_obj
def resume(state: State, lane: str, as_json: bool) -> None:
    """Let LANE go on, whatever suspended it; a lane within a suspended pattern goes on alone.

    \b
    Example: dispatcher resume 'twilio-eu/sms/us*'
    """
    done = run(_resume(load_config(state), acting("resume", lane_pattern(lane))))
    if as_json:
        print_json(done)
    else:
        click.echo(f"{done['lane']}: resumed, {_lanes(done['lanes'])}")


async def _suspend(config: Config, seconds: float, action: Action) -> dict[str, Any]:
    async with open_store(config.store) as store:
        operations = Operations(store.client, store.keys)
        return await suspend(store.inspector, operations, config.providers, seconds, action)


async def _resume(config: Config, action: Action) -> dict[str, Any]:
    async with open_store(config.store) as store:
        done = await Operations(store.client, store.keys).resume(action.on, action)
        if done is None:
            raise await _not_suspended(store.inspector, action.on)
        return {"lane": action.on, "lanes": done.lanes}


async def _not_suspended(inspector: Inspector, lane: str) -> NotSuspended:
    holding = [item.pattern for item in (await inspector.suspensions()).holding]
    hint = f"suspended: {', '.join(holding)}" if holding else "no lane is suspended"
    return NotSuspended(f"{lane} is not suspended; {hint}")


def _lanes(lanes: list[str]) -> str:
    return counted(len(lanes), "lane") if lanes else "no lane of it holds messages now"
