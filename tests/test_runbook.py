"""The runbook can be followed: its commands parse, its panels, alerts and Deployments exist."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from dispatcher.cli.main import root
from tests.test_docs import anchors

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/runbook.md"
TEXT = PAGE.read_text()
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "grafana/rules/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
PARTS = {"Symptom", "Do", "Don't", "Over"}


def commands() -> list[str]:
    """Every `dispatcher …` of the page, in blocks, in the text and behind `kubectl exec`."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", TEXT)
    found = [re.sub(r"^kubectl .* -- ", "", line) for line in lines]
    return sorted({line for line in found if line.startswith("dispatcher ")})


@pytest.mark.parametrize("line", commands())
def test_a_command_parses(line: str) -> None:
    _, *words = shlex.split(line)
    command: click.Command = root
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(command.name, words)


def test_the_commands_of_operators_are_among_them() -> None:
    named = {line.split()[1] for line in commands()}
    assert {"lanes", "suspend", "resume", "dead", "cancel", "move", "audit", "limits"} <= named


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.*)\n", TEXT, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_leads_to_a_part_that_names_it() -> None:
    slugs = {name.lower().replace(" ", "-"): text for name, text in sections().items()}
    assert set(slugs) <= anchors(PAGE)
    for alert in ALERTS:
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbook.md"
        assert f"`{alert['alert']}`" in slugs[anchor]
    assert {"restore", "key-rotation", "two-versions"} <= set(slugs)


@pytest.mark.parametrize("name", sections())
def test_a_part_says_what_is_to_be_done_and_when_it_is_over(name: str) -> None:
    told = re.findall(r"^\*\*([\w']+)\*\*", sections()[name], re.MULTILINE)
    assert set(told) == PARTS and len(told) == len(PARTS)


def titles(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        yield panel["title"]
        yield from titles(panel.get("panels", []))


def test_panels_are_those_of_the_dashboards() -> None:
    boards = [json.loads(path.read_text()) for path in ROOT.glob("grafana/dashboards/*.json")]
    known = {title for board in boards for title in titles(board["panels"])}
    prose = " ".join(re.sub(r"^ *```.*?^ *```", "", TEXT, flags=re.M | re.S).split())
    asked = re.findall(r"(?<!\*)\*([^*]+\?)\*(?!\*)", prose)
    assert len(asked) > 20
    assert set(asked) <= known


def test_what_kubectl_is_given_is_in_the_manifests() -> None:
    names = set(re.findall(r"deploy/([\w-]+)", TEXT))
    texts = [path.read_text() for path in ROOT.glob("k8s/base/*.yaml")]
    assert names == {"dispatcher-api", "dispatcher-worker"}
    for name in names:
        assert any(f"kind: Deployment\nmetadata:\n  name: {name}\n" in text for text in texts)
    for container, name in re.findall(r"set image deploy/([\w-]+) (\w+)=", TEXT):
        assert container == f"dispatcher-{name}"
