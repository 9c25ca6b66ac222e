"""Rules load, each alert is shown firing and silent, and says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.dashboards.queries import GRAFANA, boards, rules

RULES = GRAFANA / "rules"
RUNBOOK = GRAFANA.parent / "docs/runbook.md"
PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)"
)
ALERTS = rules("alerts")
EACH = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


def promtool(*arguments: str, folder: Path = RULES) -> None:
    command = ["promtool", *arguments]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stdout + process.stderr


def cases() -> list[dict[str, Any]]:
    """Every case of `promtool test rules`."""
    files = sorted((RULES / "tests").glob("*.yaml"))
    return [case for file in files for case in yaml.safe_load(file.read_text())["tests"]]


@PROMTOOL
def test_the_rules_load() -> None:
    promtool("check", "rules", *(path.name for path in RULES.glob("*.yaml")))
    promtool("check", "config", "prometheus.yaml", folder=GRAFANA)


@PROMTOOL
@pytest.mark.parametrize("name", sorted(path.name for path in (RULES / "tests").glob("*.yaml")))
def test_alerts_fire_and_are_silent_as_their_cases_say(name: str) -> None:
    promtool("test", "rules", name, folder=RULES / "tests")


@EACH
def test_an_alert_has_a_case_that_fires_and_one_that_is_silent(alert: dict[str, Any]) -> None:
    name = alert["alert"].removeprefix("Dispatcher")
    mine = [case for case in cases() if re.match(rf"{name}\b", case["name"])]
    fired = {
        sample["labels"]
        for case in mine
        for sample in case["promql_expr_test"][0]["exp_samples"]
        if "silent" not in case["name"]
    }
    assert fired == {f'{{alertname="{alert["alert"]}"}}'}
    silent = [case for case in mine if "silent" in case["name"]]
    assert silent
    assert all(not case["promql_expr_test"][0]["exp_samples"] for case in silent)


@EACH
def test_an_alert_says_how_urgent_it_is_and_where_to_look(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["for"]
    notes = alert["annotations"]
    assert notes["summary"] and notes["description"].endswith(".")
    assert re.fullmatch(r"docs/runbook\.md#[a-z-]+", notes["runbook_url"])
    assert notes["dashboard"].removeprefix("dispatcher-") in boards()


@EACH
def test_a_summary_names_only_labels_that_are_left(alert: dict[str, Any]) -> None:
    named = set(re.findall(r"\$labels\.(\w+)", str(alert["annotations"])))
    left = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", alert["expr"]))))
    recorded = set(re.findall(r"([a-z_]+):dispatcher", alert["expr"]))
    assert named <= left | set(re.findall(r"[a-z]+", " ".join(recorded)))


@pytest.mark.skipif(not RUNBOOK.exists(), reason="there is no docs/runbook.md")
def test_the_runbook_has_what_alerts_point_to() -> None:
    from tests.test_docs import anchors

    wanted = {alert["annotations"]["runbook_url"].partition("#")[2] for alert in ALERTS}
    assert wanted <= anchors(RUNBOOK)
