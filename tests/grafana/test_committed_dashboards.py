"""The committed dashboards are those the code makes, and none of their panels lacks anything."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dashboards.queries import boards, filled
from grafana.__main__ import FOLDER, main, render

BOARDS = boards()
EVERY = pytest.mark.parametrize("name", BOARDS)
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"none", "short", "s", "bytes", "mps", "cps", "cpm", "percentunit"}


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


def test_the_code_makes_what_is_committed(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert render() == made, "making them once more changes nothing"


def test_there_are_four_and_each_has_an_address_of_its_own() -> None:
    assert set(BOARDS) == {"overview", "providers", "throttling", "reliability"}
    for name, board in BOARDS.items():
        assert board["uid"] == f"dispatcher-{name}"
        assert "dispatcher" in board["tags"]


@EVERY
def test_a_panel_asks_a_question_and_says_what_the_answer_means(name: str) -> None:
    titles = [panel["title"] for panel in BOARDS[name]["panels"]]
    assert len(set(titles)) == len(titles)
    assert all(re.fullmatch(r"[A-Z].*\?", title) for title in titles), titles
    for panel in panels(name):
        assert re.fullmatch(r"(?s)[A-Z0-9c].{15,}[.]", panel["description"]), panel["title"]


@EVERY
def test_a_panel_has_unit_thresholds_and_the_data_source_that_was_chosen(name: str) -> None:
    for panel in panels(name):
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] in UNITS, panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        assert panel["datasource"] == SOURCE, panel["title"]
        assert all(target["datasource"] == SOURCE for target in panel["targets"])
    assert all(event["datasource"] == SOURCE for event in BOARDS[name]["annotations"]["list"])


@EVERY
def test_a_panel_has_a_place_of_its_own_on_the_grid(name: str) -> None:
    places = [panel["gridPos"] for panel in BOARDS[name]["panels"]]
    cells = [
        {(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
        for p in places
    ]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 for p in places)
    assert not any(one & other for one, other in combinations(cells, 2))
    filled_rows = [y for _, y in set().union(*cells)]
    assert {filled_rows.count(y) for y in set(filled_rows)} == {24}, "no gaps either"


@EVERY
def test_every_series_has_a_name_and_every_query_a_letter(name: str) -> None:
    for panel in panels(name):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        if panel["type"] != "table":
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


@EVERY
def test_data_source_and_job_are_variables_and_every_variable_is_used(name: str) -> None:
    variables = {one["name"]: one for one in BOARDS[name]["templating"]["list"]}
    assert list(variables)[:2] == ["datasource", "job"]
    assert variables["datasource"]["type"] == "datasource"
    exprs = [target["expr"] for panel in panels(name) for target in panel["targets"]]
    for variable in set(variables) - {"datasource"}:
        assert any(f"${variable}" in expr for expr in exprs), variable
    used = set(re.findall(r"\$([a-z]\w+)", " ".join(exprs)))
    assert used <= variables.keys()
    assert not any("$" in filled(expr).replace('"$1"', "") for expr in exprs)


@EVERY
def test_what_operators_and_providers_did_is_marked(name: str) -> None:
    events = {event["name"]: event for event in BOARDS[name]["annotations"]["list"]}
    assert set(events) == {"Limit changed", "Lanes suspended", "Breaker open"}
    assert all(event["enable"] and event["textFormat"] for event in events.values())
