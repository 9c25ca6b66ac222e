"""Every expression of dashboards and rules parses, and asks only for what is exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import promql_parser as promql
import pytest

from benchmarks.dashboards.queries import Asked, boards, filled, of_dashboards, operands, rules
from dispatcher import metrics

PROMETHEUS = {
    "up": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "job"},
}
"""What Prometheus adds itself."""
SCRAPED = {"job", "instance"}


def exported() -> dict[str, set[str]]:
    """Every series of the code, and its labels."""
    found = {name: set(gauge.labels) for name, gauge in metrics.STORE_GAUGES.items()}
    for name, collector in metrics.REGISTRY._names_to_collectors.items():
        if isinstance(collector, metrics.Timings):
            found[name] = set(collector.labels) | {"le"}
        elif hasattr(collector, "_labelnames"):
            found[name] = set(collector._labelnames)
    histograms = [name for name, labels in found.items() if "le" in labels]
    for name in histograms:
        labels = found.pop(name)
        suffixes = ("_bucket", "_count", "_sum")
        found |= {f"{name.removesuffix(end)}{end}": labels for end in suffixes}
    return {name: labels | SCRAPED for name, labels in found.items()}


def recorded() -> dict[str, set[str]]:
    """Every recorded series, and its labels: those its name begins with."""
    names = [rule["record"] for rule in rules("recording")]
    return {name: set(re.findall(r"[a-z]+", name.partition(":")[0])) for name in names}


KNOWN = {**exported(), **recorded(), **PROMETHEUS}


def whole_expressions() -> list[Asked]:
    alerts = [Asked(f"alert {rule['alert']}", rule["expr"]) for rule in rules("alerts")]
    records = [Asked(f"records {rule['record']}", rule["expr"]) for rule in rules("recording")]
    return [*of_dashboards(), *records, *alerts]


def selectors(expr: str) -> Iterator[promql.VectorSelector]:
    found: list[promql.VectorSelector] = []

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            found.append(node)

    promql.walk(promql.parse(expr), visit)
    yield from found


def unknown(expr: str) -> list[str]:
    """What an expression asks for and nobody exports."""
    wrong = []
    for selector in selectors(expr):
        labels = KNOWN.get(selector.name)
        if labels is None:
            wrong.append(selector.name)
        else:
            named = {matcher.name for matcher in selector.matchers.matchers}
            wrong += [f"{selector.name}{{{label}}}" for label in sorted(named - labels)]
    return wrong


def grouped(expr: str) -> set[str]:
    """The labels an expression sorts its results by."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on) \(([^)]*)\)", expr))))


@pytest.mark.parametrize("asked", whole_expressions(), ids=lambda asked: asked.where)
def test_an_expression_asks_for_what_is_exported(asked: Asked) -> None:
    assert unknown(asked.expr) == []
    labels = set().union(*(KNOWN[selector.name] for selector in selectors(asked.expr)))
    assert grouped(asked.expr) <= labels


@pytest.mark.parametrize(
    "expr",
    ["dispatcher_gone_total", 'dispatcher_workers{provider="x"}', 'up{class="bulk"}'],
)
def test_what_nobody_exports_is_found(expr: str) -> None:
    assert len(unknown(f"sum(rate({expr}[1m])) > 0")) == 1


@pytest.mark.parametrize("rule", rules("recording"), ids=lambda rule: rule["record"])
def test_a_recorded_name_says_its_labels(rule: dict[str, str]) -> None:
    outermost = re.match(r"(?:sum|max|count) by \(([^)]*)\)", rule["expr"])
    assert outermost, rule["expr"]
    assert set(outermost[1].split(", ")) == recorded()[rule["record"]]


def test_every_recorded_series_is_used() -> None:
    used = {selector.name for asked in whole_expressions() for selector in selectors(asked.expr)}
    assert recorded().keys() <= used


@pytest.mark.parametrize("asked", list(of_dashboards()), ids=lambda asked: asked.where)
def test_a_dashboard_asks_only_for_the_chosen_jobs(asked: Asked) -> None:
    for selector in selectors(asked.expr):
        matchers = {matcher.name for matcher in selector.matchers.matchers}
        assert "job" in matchers or selector.name == "ALERTS"


def added_up(expr: str) -> list[str]:
    """Gauges of the whole store whose series of several processes an expression adds up or
    compares one by one: only max makes one of them."""
    plain = {selector.name for selector in selectors(expr)} & metrics.STORE_GAUGES.keys()
    joined: set[str] = set()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.AggregateExpr) and str(node.op) == "max":
            joined.update(selector.name for selector in selectors(str(node)))

    promql.walk(promql.parse(expr), visit)
    return sorted(plain - joined)


@pytest.mark.parametrize("asked", whole_expressions(), ids=lambda asked: asked.where)
def test_gauges_of_the_whole_store_are_told_once(asked: Asked) -> None:
    assert added_up(asked.expr) == []


def test_a_gauge_that_is_told_twice_is_found() -> None:
    assert added_up("sum(dispatcher_workers)") == ["dispatcher_workers"]
    assert added_up("sum(max by (class) (dispatcher_queue_depth))") == []


def test_variables_of_grafana_ask_for_what_is_exported() -> None:
    queries = re.findall(r"label_values\((\w+)[^)]*, (\w+)\)", json.dumps(boards()))
    assert queries
    assert all(label in KNOWN[metric] for metric, label in queries)


@pytest.mark.parametrize(
    ("expr", "looked_at"),
    [
        ("a > 5", ["a"]),
        ("(a / b > 1) and on (job) c", ["a / b", "c"]),
        ("absent(a) or sum by (job) (b) == 0", ["a", "sum by (job) (b)"]),
        ("a == b", ["a", "b"]),
        ("a > bool 0", ["a"]),
        ("sum(a unless a offset 15m) > 0", ["sum(a unless a offset 15m)"]),
    ],
)
def test_an_alert_without_its_comparisons(expr: str, looked_at: list[str]) -> None:
    found = [str(one) for one in operands(promql.parse(expr))]
    assert found == [str(promql.parse(one)) for one in looked_at]


def test_variables_are_filled() -> None:
    assert filled('rate(a{job=~"$job"}[$__rate_interval])') == 'rate(a{job=~".+"}[15s])'
