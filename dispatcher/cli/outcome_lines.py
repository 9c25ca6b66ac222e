"""Reads a file of message ids, one a line, each with what became of it; any size, in constant
memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from dispatcher.engine.resolving import saying
from dispatcher.errors import UsageError
from dispatcher.store.resolving import Said

LINE_BYTES = 1000
"""The longest line that is read."""
BOM = b"\xef\xbb\xbf"
HEADERS = ("id", "message")


class Line(NamedTuple):
    """One line: what it says, or else the problem with it."""

    number: int
    said: Said | None
    problem: str = ""


def read_lines(source: BinaryIO, outcome: str | None) -> Iterator[Line]:
    """Every line but empty ones and a header: `id`, which then means `outcome`, or `id,outcome`."""
    header = True
    for number, raw in _bounded(source):
        cells = _cells(raw)
        if not any(cells) or (header and cells[0].lower() in HEADERS):
            header = header and not any(cells)
            continue
        header = False
        try:
            yield Line(number, _said(cells, len(raw) > LINE_BYTES, outcome))
        except UsageError as error:
            yield Line(number, None, str(error))


def _cells(raw: bytes) -> list[str]:
    """Neither ids nor outcomes have a comma or a quote in them."""
    text = raw.removeprefix(BOM).decode("utf-8", "replace")
    return [cell.strip().strip('"') for cell in text.split(",")]


def _said(cells: list[str], cut: bool, outcome: str | None) -> Said:
    """Raises UsageError."""
    if cut:
        raise UsageError(f"the line is longer than {LINE_BYTES:,} bytes")
    if len(cells) > 2:
        raise UsageError(f"{len(cells)} columns, expected id or id,outcome")
    word = cells[1].lower() if len(cells) == 2 else outcome
    if not word:
        raise UsageError("no outcome on the line, and --outcome is not given")
    return saying(cells[0], word)


def _bounded(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; of one that is too long only the beginning, and one byte more."""
    number = 0
    while raw := source.readline(LINE_BYTES + 1):
        number += 1
        rest = raw
        while rest and not rest.endswith(b"\n") and len(rest) > LINE_BYTES:
            rest = source.readline(LINE_BYTES + 1)
        yield number, raw
