"""The expressions of dashboards and rules, from the files that are committed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import yaml  # type: ignore[import-untyped]

from benchmarks.dashboards.prometheus import WINDOW

GRAFANA = Path(__file__).parents[2] / "grafana"
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
VARIABLES = {
    "[1m]": f"[{WINDOW}]",
    "$__rate_interval": WINDOW,
    "$job": ".+",
    "$provider": ".+",
    "$limit": ".+",
}
"""What Grafana would put for them: everything; and the shorter window of a short run."""


class Asked(NamedTuple):
    """An expression and where it stands."""

    where: str
    expr: str


def boards() -> dict[str, dict[str, Any]]:
    """Every dashboard, by name."""
    paths = sorted((GRAFANA / "dashboards").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def rules(name: str) -> list[dict[str, Any]]:
    """The rules of `rules/NAME.yaml`, in order."""
    groups = yaml.safe_load((GRAFANA / f"rules/{name}.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def of_dashboards() -> Iterator[Asked]:
    """Those of panels and annotations."""
    for name, board in boards().items():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                where = f"{name}: {panel['title']} {target['refId']}"
                yield Asked(where, filled(target["expr"]))
        for event in board["annotations"]["list"]:
            yield Asked(f"{name}: marks {event['name']}", filled(event["expr"]))


def of_rules() -> Iterator[Asked]:
    """Those of recording rules, and what alerts look at: without its comparisons an alert has
    series also while all is well."""
    for rule in rules("recording"):
        yield Asked(f"records {rule['record']}", rule["expr"])
    for rule in rules("alerts"):
        for looked_at in operands(promql.parse(rule["expr"])):
            yield Asked(f"alert {rule['alert']}", str(looked_at))


def filled(expr: str) -> str:
    """An expression of a dashboard with values in place of its variables."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def operands(expr: promql.Expr) -> Iterator[promql.Expr]:
    """What the outermost comparisons of an expression compare."""
    if isinstance(expr, promql.ParenExpr):
        yield from operands(expr.expr)
    elif isinstance(expr, promql.Call) and expr.func.name == "absent":
        yield from expr.args
    elif isinstance(expr, promql.BinaryExpr) and str(expr.op) in COMPARISONS:
        sides = (expr.lhs, expr.rhs)
        yield from (side for side in sides if not isinstance(side, promql.NumberLiteral))
    elif isinstance(expr, promql.BinaryExpr) and str(expr.op) in ("and", "or", "unless"):
        yield from operands(expr.lhs)
        yield from operands(expr.rhs)
    else:
        yield expr
