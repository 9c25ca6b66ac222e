"""`dispatcher config`: validate the configuration, or print what is in effect."""

from __future__ import annotations

import json

import click

from dispatcher import providers
from dispatcher.cli.operating import counted
from dispatcher.cli.options import State, config_option, config_path, json_option, load_config
from dispatcher.config import Config
from dispatcher.display import to_builtins, to_toml
from dispatcher.errors import ConfigError


@click.group()
@config_option
def config() -> None:
    """Validate or print the configuration.

    \b
    Example: dispatcher config check
             dispatcher config show --json
    """


@config.command(short_help="Validate file, environment and secrets.")
@config_option
@click.pass_obj
def check(state: State) -> None:
    """Validate the file, the environment, every secret and every provider's own keys.

    \b
    Example: dispatcher config check --config production.toml
    """
    path = config_path(state)
    loaded = load_config(state)
    try:
        for name, provider in loaded.providers.items():
            providers.create(name, provider)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    click.echo(f"{path}: ok ({_summary(loaded)})")


@config.command()
@config_option
@json_option
@click.pass_obj
def show(state: State, as_json: bool) -> None:
    """Print the effective configuration: defaults, file and environment; secrets as ***.

    \b
    Example: dispatcher config show --json
    """
    loaded = load_config(state)
    if as_json:
        click.echo(json.dumps(to_builtins(loaded), indent=2, ensure_ascii=False, default=str))
    else:
        click.echo(to_toml(loaded), nl=False)


def _summary(loaded: Config) -> str:
    nouns = ("provider", "sender", "carrier", "limit", "route", "tenant")
    return ", ".join(counted(len(getattr(loaded, f"{noun}s")), noun) for noun in nouns)
