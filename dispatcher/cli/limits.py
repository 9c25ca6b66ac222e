"""`dispatcher limits`: what every limit lets pass now; `limits set` and `limits reset` change it
on the whole backlog, without a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import click
from rich.table import Table

from dispatcher.cli.completing import complete_limit
from dispatcher.cli.figures import rate_text, span_text
from dispatcher.cli.operating import acting, clock_text, counted, print_json, print_table
from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.running import run
from dispatcher.engine.ingest import batch_sizes
from dispatcher.engine.limit_changes import LimitChange, change_limit
from dispatcher.engine.runtime import create_providers
from dispatcher.engine.views import limit_view
from dispatcher.engine.waiting import overview
from dispatcher.errors import UsageError
from dispatcher.policy.routing import Limits
from dispatcher.settings import Config
from dispatcher.store.opening import Store, open_store
from dispatcher.store.operations import UNTIL_RESET, Action
from dispatcher.units import Quota, parse_duration, parse_rate


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def limits(ctx: click.Context, as_json: bool) -> None:
    """Show every limit: its rate, how full it is, and the lanes that wait for it.

    \b
    Example: dispatcher limits
             dispatcher limits set carrier:de-telekom 50/s --for 1h
             dispatcher limits reset carrier:de-telekom
    """
    if ctx.invoked_subcommand is None:
        found = run(_list(load_config(ctx.obj)))
        if as_json:
            print_json(found)
        else:
            _print(found)


@limits.command("set", short_help="Put a RATE above the configuration, for every worker.")
@config_option
@click.argument("name", shell_complete=complete_limit)
@click.argument("rate")
@click.option("--for", "lasts", metavar="TIME", help="Then as configured again, e.g. 1h.")
@json_option
@click.pass_obj
def set_(state: State, name: str, rate: str, lasts: str | None, as_json: bool) -> None:
    """Put a RATE (/s, /min or /h) above the configuration, at once and for every worker, until it
    is reset or --for has passed.

    \b
    Example: dispatcher limits set carrier:de-telekom 50/s --for 1h
    """
    interval_us, seconds = _even(rate), _duration(lasts)
    told = f"{rate} for {lasts}" if lasts is not None else rate
    action = acting("limits set", name, told)
    changed = run(_change(load_config(state), action, interval_us, seconds))
    _report(changed, f"for {lasts}" if lasts is not None else "until reset", as_json)


@limits.command()
@config_option
@click.argument("name", shell_complete=complete_limit)
@json_option
@click.pass_obj
def reset(state: State, name: str, as_json: bool) -> None:
    """Let the configuration decide again about the limit NAME.

    \b
    Example: dispatcher limits reset carrier:de-telekom
    """
    action = acting("limits reset", name)
    changed = run(_change(load_config(state), action, None, UNTIL_RESET))
    _report(changed, "as configured", as_json)


class _Opened(NamedTuple):
    store: Store
    limits: Limits


def _even(text: str) -> float:
    """The interval of a rate. Raises UsageError."""
    try:
        rate = parse_rate(text)
    except ValueError as error:
        raise UsageError(f"RATE {error}") from None
    if isinstance(rate, Quota):
        raise UsageError(f"RATE must be per s, min or h, got {text!r}: quotas are configured")
    return rate.interval_us


def _duration(text: str | None) -> float:
    """Raises UsageError."""
    if text is None:
        return UNTIL_RESET
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--for {error}") from None
    if not seconds:
        raise UsageError("--for must be more than 0s")
    return seconds


@asynccontextmanager
async def _open(config: Config) -> AsyncIterator[_Opened]:
    limits = Limits(config, batch_sizes(create_providers(config)))
    async with open_store(config.store) as store:
        yield _Opened(store, limits)


async def _list(config: Config) -> list[dict[str, Any]]:
    async with _open(config) as (store, limits):
        seen = await overview(store.inspector, limits, config.providers)
    views, waiting = seen.limits, seen.waiting
    return [limit_view(views[name], waiting.get(name, ())) for name in sorted(views)]


async def _change(
    config: Config, action: Action, interval_us: float | None, seconds: float
) -> LimitChange:
    async with _open(config) as (store, limits):
        return await change_limit(config, store, limits, action, interval_us, seconds)


def _report(changed: LimitChange, until: str, as_json: bool) -> None:
    body = limit_view(changed.after, ())
    if as_json:
        print_json({key: value for key, value in body.items() if key != "lanes"})
        return
    before, after = _asked(limit_view(changed.before, ())), _asked(body)
    click.echo(f"{changed.after.name}: {before} -> {after}, {until}")


def _asked(body: Mapping[str, Any]) -> str:
    """The rate asked for, before the provider's "slow down"."""
    return rate_text(body["configured"] if body["set"] is None else body["set"])


def _print(found: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("limit", overflow="fold")
    for name in ("rate", "used", "waiting"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for body in found:
        table.add_row(
            body["name"],
            rate_text(body["rate"]),
            "" if body["used"] is None else f"{body['used']:.0%}",
            counted(len(body["lanes"]), "lane") if body["lanes"] else "",
            "\n".join(_notes(body)),
        )
    print_table(table)


def _notes(body: Mapping[str, Any]) -> Iterator[str]:
    """What is out of the ordinary, and quotas, in short lines."""
    if body["set"] is not None:
        ends = clock_text(body["set_until"]) if body["set_until"] else "reset"
        yield f"{rate_text(body['configured'])} after {ends}"
    if body["factor"] < 1:
        yield f"slowed to {body['factor']:.0%} of {_asked(body)}"
    if body["paused_seconds"]:
        yield f"paused for {span_text(body['paused_seconds'])}"
    for quota in body["quotas"]:
        yield f"{quota['used']:,}/{quota['of']:,} until {clock_text(quota['ends'])}"
