"""`dispatcher dead resolve`: an operator has learnt what became of messages nobody knew about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO, TypeAlias

import click

from dispatcher.cli.operating import acting
from dispatcher.cli.options import State, config_option, json_option, load_config
from dispatcher.cli.outcome_lines import Line, read_lines
from dispatcher.cli.records import open_source
from dispatcher.cli.running import run
from dispatcher.cli.selecting import (
    all_option,
    check_meant,
    dry_run_option,
    report,
    selecting_unknown,
)
from dispatcher.engine.lane_states import one_line
from dispatcher.engine.letters import Selection, check_selection
from dispatcher.engine.resolving import WORDS, Resolution
from dispatcher.errors import DispatcherError, UsageError
from dispatcher.settings import Config
from dispatcher.store.letters import PAGE
from dispatcher.store.opening import open_store
from dispatcher.store.operations import Action

Say: TypeAlias = Callable[[Resolution], Awaitable[None]]
"""Says it all."""


@click.command(short_help="Say what became of messages whose outcome is unknown.")
@config_option
@click.argument("messages", metavar="[MESSAGE]...", nargs=-1)
@click.option("--outcome", type=click.Choice(list(WORDS)), help="What became of them.")
@selecting_unknown
@all_option
@click.option("--file", metavar="FILE", help="Ids, one a line, or CSV id,outcome; - is stdin.")
@click.option("--reason", metavar="TEXT", help="How you know; for the audit.")
@dry_run_option
@json_option
@click.pass_obj
def resolve(
    state: State,
    selection: Selection,
    outcome: str | None,
    everything: bool,
    file: str | None,
    reason: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Say what became of messages whose outcome is unknown, as the provider has told you: of those
    that are named, of a selection, or of those in a file of any size. Counts follow and the letters
    go; one that is dead (it was never sent) keeps its letter and may be replayed. A message that is
    not unknown is named and left as it is: exit code 1. Saying the same twice does no harm.

    \b
    Example: dispatcher dead resolve 01JD4Z3C7V9M2N8Q5R6S7T8V9W-17 --outcome delivered
             dispatcher dead resolve --provider twilio-eu --since 2h --outcome sent --dry-run
             dispatcher dead resolve --file outcomes.csv --reason "console, ticket 4711"
    """
    config, why = load_config(state), one_line(reason, "--reason") if reason else ""
    told = f"as {outcome or 'the file says'}"
    if file is not None:
        if not selection.everything or everything:
            raise UsageError("--file stands alone: no MESSAGE, --all or other selection beside it")
        action = acting("dead resolve", f"file {file}", told, why)
        with open_source(file) as source:
            say = _of_file(source, file, outcome)
            done = run(_resolve(config, selection, say, action, dry_run))
    else:
        if outcome is None:
            raise UsageError(f"--outcome is missing: one of {', '.join(WORDS)}")
        check_meant(selection, everything or dry_run)
        action = acting("dead resolve", selection.words(), told, why)
        say = _of_selection(selection, outcome)
        done = run(_resolve(config, selection, say, action, dry_run))
    return report(done, _words(done), as_json, named=file is not None)


async def _resolve(
    config: Config, selection: Selection, say: Say, action: Action, dry_run: bool
) -> dict[str, Any]:
    async with open_store(config.store) as store:
        await check_selection(store.inspector, config.providers, selection)
        resolution = Resolution(store, config.retention.status, action, dry_run)
        await say(resolution)
        return resolution.view()


def _of_selection(selection: Selection, outcome: str) -> Say:
    return lambda resolution: resolution.say(selection, WORDS[outcome])


def _of_file(source: BinaryIO, path: str, outcome: str | None) -> Say:
    """What the lines of a file say; those that cannot be meant are named as they are met."""

    async def say(resolution: Resolution) -> None:
        lines, said = read_lines(source, outcome), False
        while page := _page(lines, path):
            await _say_page(resolution, page)
            said = True
        if not said:
            raise UsageError(f"--file {path} names no message")

    return say


def _page(lines: Iterator[Line], path: str) -> list[Line]:
    try:
        return list(islice(lines, PAGE))
    except OSError as error:
        raise DispatcherError(f"{path} cannot be read: {error.strerror or error}") from None


async def _say_page(resolution: Resolution, page: Sequence[Line]) -> None:
    said = {line.number: line.said for line in page if line.said is not None}
    reasons = await resolution.say_each(list(said.values()))
    why = dict(zip(said, reasons, strict=True))
    for line in page:
        _name(line, why.get(line.number, ""), resolution)


def _name(line: Line, why: str, resolution: Resolution) -> None:
    if line.said is None:
        resolution.tally.refuse(f"line {line.number}", "not understood")
        click.echo(f"line {line.number}: {line.problem}", err=True)
    elif why:
        click.echo(f"line {line.number}: {line.said.message} is {why}", err=True)


def _words(done: Mapping[str, Any]) -> str:
    outcomes = ", ".join(f"{count:,} {word}" for word, count in done["outcomes"].items())
    again = f"; {done['already']:,} had been before" if done["already"] else ""
    return f"resolved{': ' if outcomes else ''}{outcomes}{again}"
