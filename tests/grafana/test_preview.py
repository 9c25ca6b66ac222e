"""Every kind of panel can be drawn from what Prometheus answers, also where it answers nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dashboards.draw import picture
from benchmarks.dashboards.looks import color_at, colors_of, figure_of, legend_of, ticks_of
from benchmarks.dashboards.prometheus import Prometheus, Series, Span
from benchmarks.dashboards.queries import boards

LABELS = {"provider": "p", "carrier": "c", "class": "bulk", "limit": "carrier:c", "code": "503"}


def one_of_each() -> dict[str, Any]:
    """A dashboard with the first panel of every kind."""
    kinds: dict[str, Any] = {}
    for board in boards().values():
        for panel in board["panels"]:
            kinds.setdefault(panel["type"], {**panel, "gridPos": {**panel["gridPos"], "y": 0}})
    assert len(kinds) == 6
    return {**boards()["overview"], "panels": list(kinds.values())}


class Answers(Prometheus):
    """What a Prometheus would answer; nothing about some expressions."""

    def over(self, expr: str, span: Span) -> list[Series]:
        points = [(span.start + second, float(second % 3)) for second in range(20)]
        return [] if "depth" in expr else [Series(LABELS, points)]

    def at(self, expr: str, time: float) -> list[Series]:
        return [Series({"__name__": "x", **LABELS}, [(time, 2.0)])]


class Silence(Answers):
    def over(self, expr: str, span: Span) -> list[Series]:
        return []

    def at(self, expr: str, time: float) -> list[Series]:
        return []


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the extra bench")
@pytest.mark.parametrize("answers", [Answers, Silence])
def test_every_kind_of_panel_is_drawn(answers: type[Prometheus], tmp_path: Path) -> None:
    path = tmp_path / "all.png"
    picture(answers("http://127.0.0.1:1"), Span(1000.0, 1020.0), one_of_each(), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def panel(unit: str, *steps: tuple[float | None, str]) -> dict[str, object]:
    thresholds = {"steps": [{"value": value, "color": color} for value, color in steps]}
    red = {"id": "color", "value": {"fixedColor": "red"}}
    overrides = [{"matcher": {"options": "dead"}, "properties": [red]}]
    return {"fieldConfig": {"defaults": {"unit": unit, "thresholds": thresholds},
                            "overrides": overrides}}  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("s", 0.012, "12 ms"),
        ("s", 90.0, "1.5 min"),
        ("mps", 1234.0, "1.23 K msg/s"),
        ("percentunit", 0.5, "50%"),
        ("bytes", 3 * 2**20, "3 MiB"),
        ("none", 2.0, "2"),
        ("s", float("nan"), "NaN"),
    ],
)
def test_figures_read_as_in_grafana(unit: str, value: float, text: str) -> None:
    assert figure_of(panel(unit), value) == text


@pytest.mark.parametrize(("value", "place"), [(0.0, 0), (2.0, 1), (9.9, 1), (10.0, 2)])
def test_the_color_is_that_of_the_level_reached(value: float, place: int) -> None:
    steps: Sequence[tuple[float | None, str]] = [(None, "green"), (2, "yellow"), (10, "red")]
    only = [color_at(panel("s", (None, color)), 0) for _, color in steps]
    assert color_at(panel("s", *steps), value) == only[place]


def test_names_colors_and_ticks() -> None:
    assert legend_of("{{provider}}, 99 %", {"provider": "p"}) == "p, 99 %"
    colors = colors_of(panel("mps"), ["dead", "sent"])
    assert colors["dead"] == color_at(panel("s", (None, "red")), 0) != colors["sent"]
    assert ticks_of(panel("s"), 250.0) == [0, 60, 120, 180, 240]
    assert ticks_of(panel("mps"), 0.9) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
