"""How Grafana writes figures, names series and colors them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Panel = Mapping[str, Any]


class Look:
    """Colors of the dark theme."""

    PAGE, PANEL, GRID, TEXT, FAINT = "#111217", "#181b1f", "#2c3235", "#d5d7dc", "#8e929b"
    NAMED: Mapping[str, str] = {
        "green": "#4d9a4c",
        "yellow": "#d9a30c",
        "red": "#d8433f",
        "blue": "#5794f2",
        "purple": "#b877d9",
        "orange": "#ff780a",
        "dark-red": "#8f1d2c",
    }
    SERIES = (
        "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#37872d",
        "#fade2a", "#c4162a", "#8f3bb8", "#96d98d",
    )  # fmt: skip


SCALES: Mapping[str, tuple[tuple[float, str], ...]] = {
    "s": ((86400, " day"), (3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")),
    "bytes": ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")),
    "": ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (1, "")),
}
SUFFIXES = {"mps": " msg/s", "cps": " c/s", "cpm": " c/m"}


def figure_of(panel: Panel, value: float, unit: str | None = None) -> str:
    """A value in the unit of its panel."""
    unit = unit or panel["fieldConfig"]["defaults"]["unit"]
    if value != value:
        return "NaN"
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit == "none":
        return f"{value:.3g}"
    for size, suffix in SCALES.get(unit, SCALES[""]):
        if abs(value) >= size:
            return f"{_short(value / size)}{suffix}{SUFFIXES.get(unit, '')}"
    return f"{_short(value)}{SUFFIXES.get(unit, '')}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def color_at(panel: Panel, value: float) -> str:
    """The color of the highest threshold that a value reaches."""
    color = "green"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return Look.NAMED[color]


def colors_of(panel: Panel, names: Sequence[str]) -> dict[str, str]:
    """The color of every series: as the panel says, else from the palette."""
    fixed = {
        one["matcher"]["options"]: Look.NAMED[item["value"]["fixedColor"]]
        for one in panel["fieldConfig"]["overrides"]
        for item in one["properties"]
        if item["id"] == "color"
    }
    palette = {name: Look.SERIES[n % len(Look.SERIES)] for n, name in enumerate(names)}
    return {**palette, **fixed}


def ticks_of(panel: Panel, highest: float) -> list[float]:
    """Round values for an axis from 0, at most six of them."""
    steps = [base * 10.0**power for power in range(-6, 10) for base in (1, 2, 5)]
    if panel["fieldConfig"]["defaults"]["unit"] == "s" and highest > 60:
        steps = [10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400]
    if panel["fieldConfig"]["defaults"]["unit"] == "bytes":
        steps = [float(2**power) for power in range(60)]
    step = next(step for step in steps if highest / step <= 5)
    return [step * number for number in range(int(highest / step) + 1)]


def legend_of(pattern: str, labels: Mapping[str, str]) -> str:
    """The name of a series: `{{label}}` is put in."""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), pattern)
