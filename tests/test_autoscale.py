"""The simulated day uses the rule of the manifests as Kubernetes would."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import autoscale, sizing
from benchmarks.autoscale import Day, Fleet, most, simulate
from benchmarks.autoscaler import Autoscaler, Direction, Policy, Rule, read_rule

OVERLAYS = Path(__file__).parents[1] / "k8s/overlays"
RULE = read_rule(OVERLAYS / "keda/scaledobject.yaml")
SMALL = Rule(
    100.0, 2, 20,
    Direction(0, (Policy("Percent", 100, 30), Policy("Pods", 4, 30))),
    Direction(60, (Policy("Percent", 10, 60),)),
)  # fmt: skip


def test_both_manifests_have_the_rule_that_is_simulated() -> None:
    assert read_rule(OVERLAYS / "hpa/hpa.yaml") == RULE
    assert (RULE.least, RULE.most, RULE.target) == (2, 24, 6000.0)
    with pytest.raises(ValueError, match="kind must be"):
        read_rule(OVERLAYS / "production/namespace.yaml")


def test_up_at_once_as_far_as_the_most_generous_policy() -> None:
    scaler = Autoscaler(SMALL)
    assert scaler.decide(0, 2_000, 2) == 6  # 4 more, or twice as many
    assert scaler.decide(15, 2_000, 6) == 6  # within 30 s of the first step
    assert scaler.decide(30, 2_000, 6) == 12
    assert scaler.decide(60, 5_000, 12) == 20  # no more than the bound


def test_little_changes_nothing() -> None:
    scaler = Autoscaler(SMALL)
    assert scaler.decide(0, 1_090, 10) == 10
    assert scaler.decide(15, 1_110, 10) == 12


def test_down_after_the_window_and_a_tenth_a_minute() -> None:
    scaler = Autoscaler(SMALL)
    assert scaler.decide(0, 2_000, 20) == 20
    assert scaler.decide(15, 100, 20) == 20
    assert scaler.decide(60, 100, 20) == 20
    assert scaler.decide(75, 100, 20) == 18
    assert scaler.decide(90, 100, 18) == 18
    assert scaler.decide(135, 100, 18) == 16
    assert scaler.decide(150, 5_000, 16) == 20


def test_pods_take_a_while_to_start_and_those_that_wait_are_ended_first() -> None:
    fleet = Fleet(2, 40)
    fleet.order(0, 6)
    fleet.begin(39)
    assert (fleet.working, fleet.ordered) == (2, 6)
    fleet.order(39, 5)
    fleet.begin(40)
    assert (fleet.working, fleet.ordered) == (5, 5)
    fleet.order(41, 3)
    assert (fleet.working, fleet.ordered) == (3, 3)


def test_every_message_is_sent_or_waits() -> None:
    day = Day(night=1_000, peak=1_000, campaign=0, providers=2, provider_rate=600)
    course = simulate(day, 1_000, RULE._replace(least=1, target=700), end=120)
    came = sum(moment.arrived for moment in course.moments)
    assert sum(course.waited.values()) + course.moments[-1].backlog == pytest.approx(came)
    assert course.pod_hours == pytest.approx(sum(m.pods for m in course.moments) / 3600)


def test_what_a_provider_that_is_out_leaves_waiting_asks_for_no_pods() -> None:
    day = Day(night=20_000, peak=20_000, campaign=0, outage=1_200)
    begin = 14 * 3600
    course = simulate(day, 8_700, RULE, end=begin + 3_000)
    before, during = course.moments[begin - 1], course.moments[begin + 1_199]
    after = course.moments[begin + 1_200 :]
    assert before.backlog < 1 and during.backlog == pytest.approx(5_000 * 1_200, rel=0.01)
    assert during.pods < before.pods < max(moment.pods for moment in after)
    assert after[-1].backlog < 1
    assert max(moment.delay for moment in course.moments[600:begin]) == 0


def test_pods_change_by_the_policies_only() -> None:
    moments = simulate(Day(), 8_700, RULE, end=10 * 3600).moments
    changes = [after.pods - before.pods for before, after in pairwise(moments)]
    assert max(changes) <= max(4, max(moment.pods for moment in moments) // 2)
    assert min(changes) == -1


def test_the_page_shows_the_simulated_day() -> None:
    page = (Path(__file__).parents[1] / "docs/kubernetes.md").read_text()
    capacity = 1e6 / sizing.costs().sending["together"].worker
    found = autoscale.table({"autoscaled": simulate(Day(), capacity, RULE)})
    for words, value in found.rows:
        assert f"| {words} | {value} |" in page


def test_the_command_prints_and_draws(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoscale.machine, "RESULTS", tmp_path)
    results = Path(__file__).parents[1] / "benchmarks/results"
    for file in results.glob("*.json"):
        (tmp_path / file.name).symlink_to(file)
    autoscale.main(["--hours", "0.1", "--peak", "20000"])
    printed = capsys.readouterr().out
    assert "autoscaled   by backlog alone   always 4   always 24" in printed
    if "drew" in printed:
        assert (tmp_path / "autoscale.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
@pytest.mark.parametrize(
    ("sent", "drainable", "expected"),
    [(6_000, 60_000, 6_000.0), (600, 60_000, 1_000.0), (None, 60_000, 1_000.0), (600, None, None)],
)
def test_prometheus_answers_the_query_as_simulated(
    sent: int | None, drainable: int | None, expected: float | None, tmp_path: Path
) -> None:
    """Two workers send; one of them tells the gauge. Without the gauge there is no answer."""
    manifest = yaml.safe_load((OVERLAYS / "keda/scaledobject.yaml").read_text())
    (trigger,) = manifest["spec"]["triggers"]
    series = []
    if sent is not None:
        each = sent * 15 // 2
        series += [_series("messages_total", pod, f"0+{each}x40") for pod in ("a", "b")]
    if drainable is not None:
        series.append(_series("drainable_messages", "a", f"{drainable}x40"))
    if sent is not None and drainable is not None:
        assert most(sent, drainable) == expected
    samples = [] if expected is None else [{"labels": "{}", "value": expected}]
    case: dict[str, Any] = {
        "interval": "15s",
        "input_series": series,
        "promql_expr_test": [
            {"expr": trigger["metadata"]["query"], "eval_time": "5m", "exp_samples": samples}
        ],
    }
    file = tmp_path / "case.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": [case]}))
    run = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stdout + run.stderr


def _series(metric: str, pod: str, values: str) -> dict[str, str]:
    return {
        "series": f'dispatcher_{metric}{{namespace="dispatcher", pod="{pod}"}}',
        "values": values,
    }
