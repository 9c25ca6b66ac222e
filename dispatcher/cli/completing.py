"""`dispatcher completion`: what a shell needs to complete commands, and names from the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import click
from click.shell_completion import get_completion_class

from dispatcher.cli.options import load_config
from dispatcher.cli.running import run
from dispatcher.errors import DispatcherError
from dispatcher.store.inspector import Inspector
from dispatcher.store.opening import open_store

PATIENCE = 0.5
"""Seconds a person who presses the tab key waits for an absent store."""
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, lanes and limits.

    \b
    Example: dispatcher completion bash > ~/.local/share/bash-completion/completions/dispatcher
    """
    found = get_completion_class(shell)
    assert found is not None
    name = "dispatcher"
    click.echo(found(ctx.find_root().command, {}, name, f"_{name.upper()}_COMPLETE").source())


def complete_lane(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Lanes of the store that begin so."""
    return _complete(ctx, incomplete, _lanes)


def complete_limit(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Limits of the store that begin so."""
    return _complete(ctx, incomplete, lambda inspector: inspector.limit_names())


async def _lanes(inspector: Inspector) -> list[str]:
    return await inspector.lane_names(sorted(await inspector.providers()))


def _complete(
    ctx: click.Context, incomplete: str, names: Callable[[Inspector], Awaitable[list[str]]]
) -> list[str]:
    """Nothing where there is no configuration or no store: a tab key reports no errors."""

    async def find() -> list[str]:
        async with open_store(load_config({"config": _config_of(ctx)}).store, PATIENCE) as store:
            return await names(store.inspector)

    try:
        return [name for name in run(find()) if name.startswith(incomplete)]
    except DispatcherError:
        return []


def _config_of(ctx: click.Context) -> str | None:
    """What `--config` says on the line so far: on the command itself, or before it."""
    own = ctx.obj["config"] if ctx.obj else None
    return own if own is not None else ctx.find_root().params.get("config")
