"""Options that say which dead letters are meant, and the report of what was done with them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from dispatcher.cli.operating import counted, print_json
from dispatcher.engine.letters import Selection, check_ids, since
from dispatcher.errors import UsageError
from dispatcher.messages import CHANNELS

all_option = click.option(
    "--all", "everything", is_flag=True, help="Needed where nothing else is given."
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Count what is meant; change nothing."
)
_NAMES = ("provider", "code", "channel", "tenant", "status")
_OPTIONS = (
    click.option("--provider", metavar="NAME", help="Those of a provider."),
    click.option("--code", metavar="CODE", help='As listed; "unknown": outcomes not known.'),
    click.option("--channel", type=click.Choice(CHANNELS), help="Those of a channel."),
    click.option("--tenant", metavar="NAME", help="Those of a tenant."),
    click.option(
        "--since", "given_since", metavar="TIME", help="A time, or how long ago, e.g. 2h."
    ),
)
_status_option = click.option(
    "--status", type=click.Choice(("dead", "unknown")), help="Failed for good, or not known."
)


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which letters are meant; the command gets a `selection`."""
    return _status_option(selecting_unknown(command))


def selecting_unknown(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for messages that are all unknown."""

    @functools.wraps(command)
    def select(messages: tuple[str, ...] = (), given_since: str | None = None, **given: Any) -> Any:
        check_ids(messages)
        words = {name: given.pop(name, None) for name in _NAMES}
        since_us = since(given_since, time.time_ns() // 1000, "--since")
        return command(selection=Selection(messages, since_us=since_us, **words), **given)

    decorated: Callable[..., Any] = select
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def check_meant(selection: Selection, all_are: bool) -> None:
    """Raises UsageError when nothing says which letters."""
    if selection.everything and not all_are:
        raise UsageError("say which letters: MESSAGE, an option such as --code, or --all")


def report(done: Mapping[str, Any], word: str, as_json: bool, *, named: bool = False) -> int:
    """Print what was done and, unless they are `named` already, what was refused; the exit code."""
    for one in () if named else done["refused"]:
        click.echo(f"dispatcher: {one['detail']}", err=True)
    if as_json:
        print_json(done)
    elif done["messages"] or not done["refused"]:
        _print(done, word)
    return 1 if done["refused"] else 0


def _print(done: Mapping[str, Any], word: str) -> None:
    would = "would be " if done["dry_run"] else ""
    click.echo(f"{counted(done['messages'], 'message')} {would}{word}")
    for one in done["by"]:
        click.echo(f"  {one['messages']:>9,}  {one['provider']}  {one['code']}")
    for reason, count in done["left"].items():
        click.echo(f"  {count:>9,}  left: {reason}")
