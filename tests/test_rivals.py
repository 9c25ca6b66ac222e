"""The rivals benchmark: reading its figures, its pinned environments, and one measurement each."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from benchmarks.rivals import environment, measure, rounds
from benchmarks.rivals.measure import Arrival, rate

FOLDER = Path(rounds.__file__).parent


def test_the_rate_counts_from_the_first_arrival_to_the_last() -> None:
    arrivals = [Arrival(0.0, 0), Arrival(5.0, 100), Arrival(6.0, 400), Arrival(7.0, 1100)]
    idle = [Arrival(9.0, 1100)]
    assert rate(arrivals + idle) == 500.0


def test_a_rate_seen_in_one_look_is_refused() -> None:
    with pytest.raises(ValueError, match="take more"):
        rate([Arrival(0.0, 0), Arrival(1.0, 20), Arrival(2.0, 20)])


def test_the_ratio_is_to_the_fastest_rival_of_the_same_round() -> None:
    figures = [
        {"arq": 100.0, "saq": 200.0, "dispatcher": 6000.0},
        {"arq": 500.0, "saq": 400.0, "dispatcher": 5000.0},
        {"arq": 100.0, "saq": 250.0, "dispatcher": 5000.0},
    ]
    summary = rounds.summarise(figures)
    assert summary["saq"] == (250.0, 200.0, 400.0)
    assert summary["dispatcher ÷ fastest rival"] == (20.0, 10.0, 30.0)


@pytest.mark.parametrize("arguments", [["celery"], ["--messages", "0"], ["--runs", "0"]])
def test_what_cannot_be_measured_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        rounds.main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("rival", rounds.RIVALS)
def test_every_package_of_a_rival_is_pinned(rival: str) -> None:
    lines = environment.requirements(rival)
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==\d[\w.]*", line)] == []
    assert {rival, "aiohttp", "uvloop"} <= environment.versions(rival).keys()


@pytest.mark.parametrize("rival", rounds.RIVALS)
def test_a_worker_imports_only_what_its_environment_has(rival: str) -> None:
    known = {name.lower().replace("-", "_") for name in environment.versions(rival)}
    known |= sys.stdlib_module_names
    for name in (f"{rival}_worker.py", "sms.py"):
        tree = ast.parse((FOLDER / name).read_text())
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
            for alias in node.names
        ]  # fmt: skip
        foreign = {module for module in modules if module.partition(".")[0] not in known}
        assert foreign <= {"benchmarks.rivals.sms"}


def test_an_environment_with_other_versions_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "CACHE", tmp_path)
    folder = tmp_path / "rivals" / "arq"
    assert environment.installed("arq") is None
    folder.mkdir(parents=True)
    (folder / "installed").write_text("\n".join(environment.requirements("arq")))
    assert environment.installed("arq") == folder / "bin" / "python"
    (folder / "installed").write_text("arq==0.1")
    assert environment.installed("arq") is None


@pytest.mark.parametrize("rival", rounds.RIVALS)
def test_a_rival_sends_every_message_once(rival: str) -> None:
    if environment.installed(rival) is None:
        pytest.skip(f"no environment of {rival}: ./run bench rivals {rival} makes it")
    assert measure.measure(rival, 500).per_second > 0


def test_the_dispatcher_sends_every_message_once() -> None:
    assert measure.measure(rounds.OWN, 20_000).per_second > 0


def test_a_worker_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = measure.Commands(
        [sys.executable, "-c", ""], [sys.executable, "-c", "raise SystemExit('no luck')"]
    )
    monkeypatch.setattr(measure, "_commands", lambda *_: commands)
    with pytest.raises(RuntimeError, match="5 enqueued, 0 arrived") as failed:
        measure.measure("arq", 5)
    assert "no luck" in str(failed.value)
