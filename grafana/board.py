"""What all dashboards share: variables, links to each other, and marks of what operators and
providers did."""

from __future__ import annotations

from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.panels import DATASOURCE

TAG = "dispatcher"
EVERY = VariableOption(True, "All", "$__all")


class Event(AnnotationQuery, Builder[AnnotationQuery]):
    """Marks the time during which an expression has series. `text` may name labels, `{{label}}`."""

    def __init__(self, name: str, text: str, color: str, expr: str) -> None:
        super().__init__(name, DATASOURCE, icon_color=color, expr=expr)
        self._text = text

    def build(self) -> AnnotationQuery:
        """This is the query itself: the SDK has no builder that knows of texts."""
        return self

    def to_json(self) -> dict[str, Any]:
        """With the keys that only annotations from Prometheus have."""
        own = {"step": "15s", "titleFormat": self.name, "textFormat": self._text, "tagKeys": ""}
        return {**super().to_json(), **own}


EVENTS = (
    Event(
        "Limit changed",
        "the rate of {{limit}} changed: an operator, a file or a ramp set it, or a provider asked "
        "for less but a moment",
        "blue",
        'max by (limit) (changes(dispatcher_limit_rate{job=~"$job"}[30s])) > 0 unless '
        'max by (limit) (max_over_time(dispatcher_limit_paused_seconds{job=~"$job"}[2m])) > 0',
    ),
    Event(
        "Lanes suspended",
        "lanes of {{provider}} are suspended: dispatcher lanes says which, by whom and why",
        "purple",
        'max by (provider) (dispatcher_lanes_suspended{job=~"$job"}) > 0',
    ),
    Event(
        "Breaker open",
        "{{provider}} is out: its breaker is not closed",
        "red",
        'max by (provider) (job_provider:dispatcher_breaker_state:max{job=~"$job"}) > 0',
    ),
)


class Section(NamedTuple):
    """Panels under a heading, each line of them 24 wide."""

    title: str
    panels: tuple[Builder[Panel], ...]


class Board(NamedTuple):
    """The dashboard `dispatcher-NAME`."""

    name: str
    title: str
    description: str
    sections: tuple[Section, ...]
    variables: tuple[dashboard.QueryVariable, ...] = ()

    def build(self) -> Dashboard:
        """A dashboard of Grafana, its panels numbered from 1."""
        made = self._empty()
        for variable in (_datasource(), values("job", "Job", "dispatcher_claims_total")):
            made.with_variable(variable)
        for chosen in self.variables:
            made.with_variable(chosen)
        for event in EVENTS:
            made.annotation(event)
        for section in self.sections:
            made.with_row(dashboard.Row(section.title))
            for panel in section.panels:
                made.with_panel(panel)
        return _numbered(made.build())

    def _empty(self) -> dashboard.Dashboard:
        return (
            dashboard.Dashboard(f"Dispatcher: {self.title}")
            .uid(f"dispatcher-{self.name}")
            .description(self.description)
            .tags([TAG])
            .time("now-1h", "now")
            .refresh("15s")
            .timezone("browser")
            .readonly()
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .link(_others())
        )


def _numbered(made: Dashboard) -> Dashboard:
    for number, panel in enumerate(made.panels or (), 1):
        panel.id_val = number
    return made


def values(label: str, title: str, metric: str) -> dashboard.QueryVariable:
    """A variable: one, some or all values of a label of a metric."""
    narrowed = metric if label == "job" else f'{metric}{{job=~"$job"}}'
    return (
        dashboard.QueryVariable(label)
        .label(title)
        .query(f"label_values({narrowed}, {label})")
        .datasource(DATASOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(EVERY)
    )


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _others() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Dispatcher").type(DashboardLinkType.DASHBOARDS)
    return link.tags([TAG]).include_vars(True).keep_time(True)
