"""What `send` shows while it works: a progress bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO, Self

import click
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from dispatcher.store.inspector import BatchView


class Progress:
    """Counts by bytes where the size of the source is known. Lines it prints go to stderr."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._console = Console(stderr=True)
        self._source = source
        self._total = _size(source)
        self._name = name
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._started = time.monotonic()
        self._said = 0.0

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
        return Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
        )

    def show(self, records: int, rejected: int) -> None:
        """So many records are read."""
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
        """The store makes us wait; said at most every five seconds."""
        now = time.monotonic()
        if now - self._said > 5:
            self._said = now
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
                bar.update(
                    task, total=view.total, completed=view.total - left, rate=f"{left:,} left"
                )

            yield show


def _size(source: BinaryIO) -> int | None:
    try:
        return os.fstat(source.fileno()).st_size or None if source is not sys.stdin.buffer else None
    except (OSError, ValueError):
        return None
