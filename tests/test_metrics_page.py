"""docs/metrics.md names every metric there is, with its type and labels, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import Metric

from dispatcher import metrics

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(dispatcher_\w+)` \| (\w+) \| ([^|]*)\|", re.MULTILINE)


class Told(NamedTuple):
    type: str
    labels: frozenset[str]


def named(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def labels_of(name: str) -> tuple[str, ...]:
    """The labels a metric is registered with, whether it has samples yet or not."""
    if name in metrics.STORE_GAUGES:
        return metrics.STORE_GAUGES[name].labels
    collector = metrics.REGISTRY._names_to_collectors[name]
    if isinstance(collector, metrics.Timings):
        return collector.labels
    return tuple(getattr(collector, "_labelnames", ()))


def test_the_page_is_what_is_registered() -> None:
    told = {
        name: Told(type_, frozenset(labels.replace(",", " ").split()))
        for name, type_, labels in ROW.findall(PAGE.read_text())
    }
    registered = {
        named(metric): Told(metric.type, frozenset(labels_of(named(metric))))
        for metric in metrics.REGISTRY.collect()
    }
    assert told == registered


def test_every_metric_says_what_it_is_in_a_sentence() -> None:
    for metric in metrics.REGISTRY.collect():
        assert re.fullmatch(r"[A-Z0-9].{14,}\.", metric.documentation), metric.name
        if metric.name.endswith("_seconds"):
            assert "econds" in metric.documentation, metric.name
        if metric.name.endswith("_bytes"):
            assert "bytes" in metric.documentation, metric.name


def test_labels_have_few_values() -> None:
    label = metrics.Bounded(2)
    assert [label.of(name) for name in ("a", "b", "c", "a")] == ["a", "b", metrics.OTHER, "a"]
