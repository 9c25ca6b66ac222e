"""What the commands of operators share: who is acting, and how lanes and reports are shown."""

from __future__ import annotations

import getpass
import os
import socket
import time
from datetime import datetime

import click
import msgspec
from rich.console import Console
from rich.table import Table

from dispatcher.messages import new_ulid
from dispatcher.store.operations import Action

PIPE_WIDTH = 200
"""Columns of a table that does not go to a terminal."""


def acting(what: str, on: str, detail: str = "", reason: str = "") -> Action:
    """An action of the person at this terminal."""
    return Action(new_ulid(time.time_ns() // 1_000_000), _person(), what, on, detail, reason)


def print_json(found: object) -> None:
    """One line for programs."""
    click.echo(msgspec.json.encode(found).decode())


def print_table(table: Table) -> None:
    """As wide as the terminal; what goes elsewhere is not wrapped at its width."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)


def clock_text(moment: str) -> str:
    """A time of these days in few characters (UTC)."""
    return datetime.fromisoformat(moment).strftime("%d %b %H:%MZ")


def counted(number: int, noun: str) -> str:
    """`1 lane`, `1,200 lanes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _person() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
