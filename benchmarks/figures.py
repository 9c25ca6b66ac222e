"""Figures of several runs as tables, on the terminal and in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

Spread: TypeAlias = Mapping[str, float]
"""`median`, `low` and `high` of a figure over the runs."""


class Table(NamedTuple):
    """Rows of text under a header; the first column is words, the others are figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def spread(values: Sequence[float]) -> Spread:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def summarise(runs: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """The spread of every figure that all runs have."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: spread([run[name] for run in runs]) for name in names}


def number(value: float) -> str:
    """Three digits or all whole ones: 0.734, 8.25, 36.4, 20,868."""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2}f}"


def shown(found: Spread | None) -> str:
    """`median (lowest to highest)`, or a dash for what was not measured."""
    if found is None:
        return "–"
    median, low, high = (number(found[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low} to {high})"


def list_figures(summary: Mapping[str, Spread], words: Mapping[str, str]) -> Table:
    """A row per figure, in the order of `words`, which says what each of them is."""
    rows = [(text, shown(summary[name])) for name, text in words.items() if name in summary]
    return Table(("figure", "median (lowest to highest)"), rows)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the ordered values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def print_table(title: str, table: Table) -> None:
    """Write a table to the terminal, in columns."""
    lines = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for first, *others in lines:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        print("  " + "   ".join([first.ljust(widths[0]), *cells]), flush=True)


def markdown(table: Table) -> str:
    """The table as Markdown."""
    ruler = ["---"] * len(table.header)
    return "\n".join(f"| {' | '.join(line)} |" for line in (table.header, ruler, *table.rows))
