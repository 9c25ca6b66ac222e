"""Draws dashboards from what Prometheus answers, for those who have no Grafana at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.dashboards.looks import Look, color_at, colors_of, figure_of, legend_of, ticks_of
from benchmarks.dashboards.prometheus import WINDOW, Prometheus, Series, Span
from benchmarks.dashboards.queries import GRAFANA, boards, filled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = GRAFANA / "preview"
LABEL = f"drawn from Prometheus results, not Grafana; windows of a minute are {WINDOW} here"
COLUMN, ROW = 0.78, 0.42
"""Inches of one unit of the grid."""
DPI = 80
Panel = dict[str, Any]


def dashboards(prometheus: Prometheus, span: Span, folder: Path) -> Iterator[Path]:
    """Write one PNG per dashboard; their paths."""
    folder.mkdir(exist_ok=True)
    for name, board in boards().items():
        path = folder / f"{name}.png"
        picture(prometheus, span, board, path)
        yield path


def picture(prometheus: Prometheus, span: Span, board: dict[str, Any], path: Path) -> None:
    """Write one dashboard as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rc("font", size=9)
    _Page(prometheus, span, board).save(path)


class _Page:
    """One dashboard on one picture."""

    def __init__(self, prometheus: Prometheus, span: Span, board: dict[str, Any]) -> None:
        import matplotlib.pyplot as plt

        self._prometheus = prometheus
        self._span = span
        self._board = board
        self._height = 2 + max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"])
        size = (24 * COLUMN, self._height * ROW)
        self._figure = plt.figure(figsize=size, facecolor=Look.PAGE)
        self._events = [
            (event["name"], event["iconColor"], prometheus.over(filled(event["expr"]), span))
            for event in board["annotations"]["list"]
        ]

    def save(self, path: Path) -> None:
        """Draw everything and write it."""
        import matplotlib.pyplot as plt

        title = f"{self._board['title']}    {self._board['description']}"
        top = 1 - 0.8 / self._height
        self._figure.text(0.008, top, title, color=Look.TEXT, size=14, weight="bold")
        self._figure.text(0.992, top, LABEL, color=Look.FAINT, size=10, ha="right")
        for number, (name, color, _) in enumerate(self._events):
            x, y = 0.008 + 0.09 * number, top - 0.75 / self._height
            self._figure.text(x, y, f"▌{name}", color=Look.NAMED[color], size=10)
        for panel in self._board["panels"]:
            if panel["type"] == "row":
                self._heading(panel)
            else:
                self._panel(panel)
        self._figure.savefig(path, dpi=DPI, facecolor=Look.PAGE)
        plt.close(self._figure)
        _compress(path)

    def _heading(self, panel: Panel) -> None:
        y = 1 - (2 + panel["gridPos"]["y"] + 0.75) / self._height
        self._figure.text(0.008, y, panel["title"], color=Look.TEXT, size=12, weight="bold")

    def _panel(self, panel: Panel) -> None:
        axes = self._axes(panel["gridPos"], panel["type"])
        axes.set_title(panel["title"], color=Look.TEXT, size=10, loc="left", pad=5)
        draw = {
            "stat": self._number,
            "timeseries": self._lines,
            "state-timeline": self._states,
            "bargauge": self._bars,
            "table": self._rows,
        }[panel["type"]]
        draw(axes, panel)

    def _axes(self, place: dict[str, int], kind: str) -> Axes:
        left = {"timeseries": 1.0, "state-timeline": 2.6, "bargauge": 2.6}.get(kind, 0.15)
        below = {"timeseries": 1.9, "state-timeline": 0.8}.get(kind, 0.3)
        x, w = (place["x"] + left) / 24, (place["w"] - left - 0.25) / 24
        bottom = 2 + place["y"] + place["h"] - below
        h = (place["h"] - below - 1.0) / self._height
        axes = self._figure.add_axes((x, 1 - bottom / self._height, w, h), facecolor=Look.PANEL)
        axes.tick_params(colors=Look.FAINT, length=2, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(Look.GRID)
        return axes

    def _asked(self, panel: Panel) -> Iterator[tuple[str, Series]]:
        """Every series of a panel, with its name in the legend."""
        for target in panel["targets"]:
            for series in self._prometheus.over(filled(target["expr"]), self._span):
                yield legend_of(target.get("legendFormat", ""), series.labels), series

    def _number(self, axes: Axes, panel: Panel) -> None:
        axes.set_axis_off()
        points = next((series.points for _, series in self._asked(panel)), ())
        if not points:
            axes.text(0.5, 0.5, "no data", color=Look.FAINT, ha="center", va="center")
            return
        value = points[-1][1]
        color, text = _state(panel, value) or (color_at(panel, value), figure_of(panel, value))
        axes.add_patch(_box(color, axes))
        axes.text(
            0.5, 0.55, text, color="white", size=19, weight="bold", ha="center", va="center",
            transform=axes.transAxes,
        )  # fmt: skip

    def _lines(self, axes: Axes, panel: Panel) -> None:
        found = sorted(self._asked(panel), key=lambda one: one[0])
        colors = colors_of(panel, [name for name, _ in found])
        custom = panel["fieldConfig"]["defaults"]["custom"]
        if custom.get("stacking", {}).get("mode") == "normal":
            self._stack(axes, found, colors)
        else:
            style = "steps-post" if custom.get("lineInterpolation") == "stepAfter" else "default"
            for name, series in found:
                x, y = zip(*series.points, strict=True)
                axes.plot(x, y, color=colors[name], lw=1.4, drawstyle=style, label=name)
        self._frame(axes, panel)
        for _, color, marked in self._events:
            _mark(axes, color, marked)
        if found:
            axes.legend(
                loc="upper left", bbox_to_anchor=(-0.06, -0.12), ncol=4, frameon=False,
                fontsize=7, labelcolor=Look.TEXT, handlelength=1, columnspacing=1,
                borderaxespad=0,
            )  # fmt: skip
        else:
            axes.text(0.5, 0.5, "no data", color=Look.FAINT, transform=axes.transAxes)

    def _stack(
        self, axes: Axes, found: Sequence[tuple[str, Series]], colors: dict[str, str]
    ) -> None:
        times = sorted({at for _, series in found for at, _ in series.points})
        tables = [dict(series.points) for _, series in found]
        layers = [[table.get(at, 0.0) for at in times] for table in tables]
        names = [name for name, _ in found]
        if layers:
            axes.stackplot(
                times, layers, labels=names, colors=[colors[name] for name in names], alpha=0.75
            )

    def _frame(self, axes: Axes, panel: Panel) -> None:
        """Axes, thresholds."""
        self._time(axes)
        axes.set_ylim(bottom=0, top=axes.get_ylim()[1] or 1)
        axes.grid(color=Look.GRID, lw=0.5)
        axes.set_axisbelow(True)
        axes.set_yticks(ticks_of(panel, axes.get_ylim()[1]))
        axes.yaxis.set_major_formatter(lambda value, _: figure_of(panel, value))
        highest = axes.get_ylim()[1]
        if "thresholdsStyle" in panel["fieldConfig"]["defaults"]["custom"]:
            for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
                if step["value"] is not None and step["value"] <= highest:
                    axes.axhline(step["value"], color=Look.NAMED[step["color"]], ls="--", lw=0.8)

    def _time(self, axes: Axes) -> None:
        """Seconds since the start of the run."""
        axes.set_xlim(*self._span)
        seconds = range(0, int(self._span.end - self._span.start) + 1, 10)
        places = [self._span.start + second for second in seconds]
        axes.set_xticks(places, [f"{second} s" for second in seconds])

    def _states(self, axes: Axes, panel: Panel) -> None:
        found = sorted(self._asked(panel), key=lambda one: one[0], reverse=True)
        for row, (_, series) in enumerate(found):
            for at, value in series.points:
                color, _text = _state(panel, value) or (Look.FAINT, "")
                axes.barh(row, 1.05, left=at, height=0.7, color=color, linewidth=0)
        self._time(axes)
        axes.set_yticks(range(len(found)), [name for name, _ in found], color=Look.TEXT)
        if not found:
            axes.set_ylim(0, 1)

    def _bars(self, axes: Axes, panel: Panel) -> None:
        (target,) = panel["targets"]
        most = panel["fieldConfig"]["defaults"]["max"]
        found = self._prometheus.at(filled(target["expr"]), self._span.end)[::-1]
        for row, series in enumerate(found):
            value = series.points[0][1]
            axes.barh(row, most, color=Look.GRID, height=0.6)
            axes.barh(row, min(value, most), color=color_at(panel, value), height=0.6)
            axes.text(
                most, row, figure_of(panel, value) + " ", color="white", ha="right", va="center"
            )
        names = [legend_of(target["legendFormat"], series.labels) for series in found]
        axes.set_yticks(range(len(found)), names, color=Look.TEXT)
        axes.set_xticks([])
        axes.set_xlim(0, most)

    def _rows(self, axes: Axes, panel: Panel) -> None:
        axes.set_axis_off()
        header, rows = self._table(panel)
        lines = [header, *rows[: panel["gridPos"]["h"] + 2]]
        for y, line in enumerate(lines):
            for x, text in enumerate(line):
                axes.text(
                    x / len(header), 1 - (y + 0.5) / (panel["gridPos"]["h"] + 3), text,
                    color=Look.FAINT if y == 0 else Look.TEXT, size=9, va="center",
                    transform=axes.transAxes,
                )  # fmt: skip

    def _table(self, panel: Panel) -> tuple[list[str], list[list[str]]]:
        """Header and rows as Grafana merges them, in the order of the panel."""
        (named,) = [t for t in panel["transformations"] if t["id"] == "organize"]
        names = named["options"]["renameByName"]
        rows: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
        for target, name in zip(panel["targets"], names.values(), strict=True):
            for series in self._prometheus.at(filled(target["expr"]), self._span.end):
                labels = {k: v for k, v in series.labels.items() if k != "__name__"}
                rows.setdefault(tuple(sorted(labels.items())), {})[name] = series.points[0][1]
        by = panel["options"]["sortBy"][0]["displayName"]
        ordered = sorted(rows.items(), key=lambda row: -row[1].get(by, 0.0))
        header = [*(k for k, _ in ordered[0][0]), *names.values()] if ordered else ["no data"]
        units = {
            one["matcher"]["options"]: one["properties"][0]["value"]
            for one in panel["fieldConfig"]["overrides"]
        }
        return header, [
            [*(v for _, v in key), *(_cell(panel, values, n, units) for n in names.values())]
            for key, values in ordered
        ]


def _compress(path: Path) -> None:
    """A palette is enough for flat colors, and a third of the size."""
    from PIL import Image

    with Image.open(path) as image:
        flat = image.convert("RGB").quantize(128)
    flat.save(path, optimize=True)


def _cell(panel: Panel, values: dict[str, float], name: str, units: dict[str, str]) -> str:
    return figure_of(panel, values[name], units.get(name)) if name in values else ""


def _state(panel: Panel, value: float) -> tuple[str, str] | None:
    """Color and text that stand for a value."""
    for mapping in panel["fieldConfig"]["defaults"].get("mappings", ()):
        if found := mapping["options"].get(f"{value:g}"):
            return Look.NAMED[found["color"]], found["text"]
    return None


def _mark(axes: Axes, color: str, marked: Sequence[Series]) -> None:
    """The time during which an event has series, as Grafana shades a region."""
    times = sorted({at for series in marked for at, _ in series.points})
    start = last = None
    for at in [*times, float("inf")]:
        if start is None:
            start = at
        elif last is not None and at - last > 1.5:
            axes.axvspan(start, last, color=Look.NAMED[color], alpha=0.13, lw=0)
            axes.axvline(start, color=Look.NAMED[color], lw=0.8, ls=":")
            start = at
        last = at


def _box(color: str, axes: Axes) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0.05), 1, 0.95, color=color, transform=axes.transAxes)
