"""What `send` shows while it works: a progress bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import click
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from dispatcher.store.inspector import BatchView

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds between two lines that say why nothing moves."""


class Progress:
    """Counts by bytes where the size of the source is known. Lines it prints go to stderr."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._console = Console(stderr=True)
        self._source = source
        self._total = _size(source)
        self._name = "stdin" if name == "-" else Path(name).name
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._started = time.monotonic()
        self._said = 0.0
        self._pause = FIRST_PAUSE

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._console.is_terminal:
            self._bar = self._columns()
            self._task = self._bar.add_task(self._name, total=self._total, rate="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            if error is None and self._total:
                self._bar.update(self._task, completed=self._total)
            self._bar.stop()
            self._bar = None

    def _columns(self) -> Bar:
        name = Column(max_width=16, no_wrap=True, overflow="ellipsis")
        return Bar(
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            expand=True,
        )

    def show(self, records: int, rejected: int) -> None:
        """So many records are read."""
        self._pause = FIRST_PAUSE
        if self._bar is None:
            return
        rate = records / max(1e-6, time.monotonic() - self._started)
        bad = f", {rejected:,} rejected" if rejected else ""
        done = self._source.tell() if self._total else records
        self._bar.update(self._task, completed=done, rate=f"{records:,} ({rate:,.0f}/s){bad}")

    def line(self, text: str) -> None:
        """One line of its own."""
        if self._bar is not None:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            click.echo(text, err=True)

    def waiting(self, why: str) -> None:
        """The store makes us wait; said after pauses that grow until something is read again."""
        now = time.monotonic()
        if now - self._said > self._pause:
            self._said = now
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self.line(f"waiting: {why}")

    @contextmanager
    def waiting_for(self, batch: str) -> Iterator[Callable[[BatchView], None]]:
        """While a batch is being sent; call the result with its counts."""
        if not self._console.is_terminal:
            yield lambda view: None
            return
        with self._columns() as bar:
            task = bar.add_task("sending", total=None, rate="")

            def show(view: BatchView) -> None:
                left = view.counts["queued"] + view.counts["scheduled"]
                dead = f", {view.counts['dead']:,} dead" if view.counts["dead"] else ""
                bar.update(
                    task,
                    total=view.total,
                    completed=view.total - left,
                    rate=f"{left:,} left{dead}",
                )

            yield show


def _size(source: BinaryIO) -> int | None:
    try:
        return os.fstat(source.fileno()).st_size or None if source is not sys.stdin.buffer else None
    except (OSError, ValueError):
        return None
