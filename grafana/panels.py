"""The kinds of panels: data that becomes a panel of Grafana, anew each time it is built."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

NAMES = "ABCDEF"
"""Of the queries of a panel, in order."""
DATASOURCE = DataSourceRef("prometheus", "${datasource}")
GREEN, YELLOW, RED = "green", "yellow", "red"
OUTCOMES = {
    "sent": GREEN,
    "retried": "blue",
    "deferred": "purple",
    "suppressed": YELLOW,
    "expired": "orange",
    "dead": RED,
    "unknown": "dark-red",
}
"""The color of each outcome, the same everywhere."""

Panel = TypeVar(
    "Panel", stat.Panel, timeseries.Panel, statetimeline.Panel, table.Panel, bargauge.Panel
)


class Query(NamedTuple):
    """An expression; `legend` names its series, `{{label}}` standing for the value of a label."""

    expr: str
    legend: str


class Levels(NamedTuple):
    """From where on a value is a warning, and from where on it is bad; None: there is no such
    value. With `falling` the bad values are those below."""

    warning: float | None = None
    bad: float | None = None
    falling: bool = False

    @property
    def drawn(self) -> bool:
        """Whether there is a level to draw a line at."""
        return self.warning is not None or self.bad is not None

    def build(self) -> dashboard.ThresholdsConfig:
        """As Grafana takes it: steps that each begin at a value."""
        between = GREEN if self.warning is None else YELLOW
        if self.falling:
            first, colors = RED, ((self.bad, between), (self.warning, GREEN))
        else:
            first, colors = GREEN, ((self.warning, YELLOW), (self.bad, RED))
        found = [Threshold(value, color) for value, color in colors if value is not None]
        steps = [Threshold(None, first), *found]
        return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


class Question(NamedTuple):
    """What a panel asks, what the answer means, its unit, and its size on a grid 24 wide."""

    title: str
    description: str
    unit: str
    width: int
    height: int = 8
    levels: Levels = Levels()


class State(NamedTuple):
    """What a value stands for."""

    text: str
    color: str


class Number(Builder[models.Panel]):
    """One figure, large, on the color of its level, above how it went."""

    def __init__(
        self, question: Question, query: Query, states: Mapping[int, State] | None = None
    ) -> None:
        self._question, self._query, self._states = question, query, states

    def build(self) -> models.Panel:
        """A panel of Grafana."""
        panel = (
            _asked(stat.Panel(), self._question)
            .with_target(_over_time(self._query, "A"))
            .graph_mode(BigValueGraphMode.AREA)
            .color_mode(BigValueColorMode.BACKGROUND)
            .reduce_options(_latest())
        )
        if self._states is not None:
            panel.mappings(_mappings(self._states))
        return panel.build()


class Lines(Builder[models.Panel]):
    """Values over time, as steps or stacked on each other; a dashed line at each level. `colors`
    are those of series by name, where a color says something."""

    def __init__(
        self,
        question: Question,
        *queries: Query,
        stacked: bool = False,
        steps: bool = False,
        colors: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._question, self._queries = question, queries
        self._stacked, self._steps, self._colors = stacked, steps, colors

    def build(self) -> models.Panel:
        """A panel of Grafana."""
        panel = (
            _asked(timeseries.Panel(), self._question)
            .min(0)
            .fill_opacity(40 if self._stacked else 8)
            .line_width(1 if self._stacked else 2)
            .show_points(VisibilityMode.NEVER)
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
            .legend(_legend())
            .tooltip(_tooltip())
        )
        for query, name in zip(self._queries, NAMES, strict=False):
            panel.with_target(_over_time(query, name))
        for series, color in self._colors.items():
            fixed = {"mode": "fixed", "fixedColor": color}
            panel.override_by_name(series, [DynamicConfigValue("color", fixed)])
        if self._stacked:
            panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
        if self._steps:
            panel.line_interpolation(LineInterpolation.STEP_AFTER)
        if self._question.levels.drawn:
            style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
            panel.thresholds_style(style)
        return panel.build()


class States(Builder[models.Panel]):
    """One bar per series, in the color of what its value stands for."""

    def __init__(self, question: Question, query: Query, meaning: Mapping[int, State]) -> None:
        self._question, self._query, self._meaning = question, query, meaning

    def build(self) -> models.Panel:
        """A panel of Grafana."""
        return (
            _asked(statetimeline.Panel(), self._question)
            .with_target(_over_time(self._query, "A"))
            .mappings(_mappings(self._meaning))
            .show_value(VisibilityMode.AUTO)
            .row_height(0.8)
            .merge_values(True)
            .legend(common.VizLegendOptions().show_legend(False))
            .build()
        )


class Bars(Builder[models.Panel]):
    """The latest value of every series, on a scale up to `most`."""

    def __init__(self, question: Question, query: Query, most: float) -> None:
        self._question, self._query, self._most = question, query, most

    def build(self) -> models.Panel:
        """A panel of Grafana."""
        return (
            _asked(bargauge.Panel(), self._question)
            .with_target(_now(self._query, "A", PromQueryFormat.TIME_SERIES))
            .min(0)
            .max(self._most)
            .orientation(VizOrientation.HORIZONTAL)
            .display_mode(BarGaugeDisplayMode.BASIC)
            .reduce_options(_latest())
            .build()
        )


class Column(NamedTuple):
    """A column of values in a table; `unit` where it is not that of the question."""

    name: str
    expr: str
    unit: str = ""


class Rows(Builder[models.Panel]):
    """One row for every set of labels, now; those with most in the column `sort` on top."""

    def __init__(self, question: Question, *columns: Column, sort: str) -> None:
        self._question, self._columns, self._sort = question, columns, sort

    def build(self) -> models.Panel:
        """A panel of Grafana."""
        order = common.TableSortByFieldState().display_name(self._sort).desc(True)
        panel = _asked(table.Panel(), self._question).sort_by([order])
        for column, name in zip(self._columns, NAMES, strict=False):
            panel.with_target(_now(Query(column.expr, ""), name, PromQueryFormat.TABLE))
            if column.unit:
                panel.override_by_name(column.name, [DynamicConfigValue("unit", column.unit)])
        panel.with_transformation(DataTransformerConfig("merge", options={}))
        return panel.with_transformation(self._named()).build()

    def _named(self) -> DataTransformerConfig:
        several = len(self._columns) > 1
        names = {
            f"Value #{name}" if several else "Value": column.name
            for column, name in zip(self._columns, NAMES, strict=False)
        }
        options = {"excludeByName": {"Time": True}, "renameByName": names}
        return DataTransformerConfig("organize", options=options)


def _asked(panel: Panel, question: Question) -> Panel:
    """What all kinds of panels have."""
    panel.title(question.title).description(question.description).datasource(DATASOURCE)
    panel.unit(question.unit).thresholds(question.levels.build())
    panel.span(question.width).height(question.height)
    return panel


def _over_time(query: Query, name: str) -> prometheus.Dataquery:
    return _target(query, name).range()


def _now(query: Query, name: str, form: PromQueryFormat) -> prometheus.Dataquery:
    return _target(query, name).instant().format(form)


def _target(query: Query, name: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(name).datasource(DATASOURCE)
    return target.legend_format(query.legend) if query.legend else target


def _latest() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    return legend.display_mode(LegendDisplayMode.LIST)


def _mappings(states: Mapping[int, State]) -> list[ValueMapping]:
    results = {
        str(value): ValueMappingResult(state.text, state.color, index=index)
        for index, (value, state) in enumerate(states.items())
    }
    return [ValueMap(results)]
