"""Options that several commands share, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypedDict, TypeVar

import click

from dispatcher.config import Config, find, load
from dispatcher.errors import ConfigError, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator: TypeAlias = Callable[[Command], Command]


class State(TypedDict):
    """`ctx.obj` of every command. `config` is what `--config` said, None where it was not given."""

    config: str | None


def config_path(state: State) -> Path:
    """The configuration file of this call. Raises ConfigError naming the places searched."""
    return find(state["config"], os.environ, Path.cwd())


def require_providers(config: Config, state: State) -> None:
    """Raises ConfigError for a configuration that can send nothing."""
    if not config.providers:
        raise ConfigError(f"{config_path(state)}: no [providers.NAME] table, nothing can be sent")


def load_config(state: State, flags: Mapping[str, Any] = MappingProxyType({})) -> Config:
    """The effective configuration of this call; `flags` as in `dispatcher.config.load`.

    Raises ConfigError.
    """
    return load(config_path(state), os.environ, flags)


def check_tenant(config: Config, tenant: str) -> None:
    """Raises UsageError for a tenant that is not among those configured."""
    if config.tenants and tenant not in config.tenants and tenant != "default":
        known = ", ".join(sorted(config.tenants))
        raise UsageError(f"--tenant {tenant!r} is not configured (known: {known})")


def _remember(ctx: click.Context, _option: click.Parameter, value: str | None) -> None:
    state = ctx.ensure_object(dict)
    if value is not None or "config" not in state:
        state["config"] = value


config_option: Decorator[Any] = click.option(
    "--config",
    metavar="FILE",
    expose_value=False,
    callback=_remember,
    help="Configuration; else $DISPATCHER_CONFIG, else ./dispatcher.toml.",
)
"""`--config FILE`, kept in `ctx.obj`; on a command it stands above the one before it."""

json_option: Decorator[Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs."
)
"""`--json`, given to the command as `as_json`."""
