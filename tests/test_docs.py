"""Every link and path in the documentation leads somewhere, its configurations load and do what the
text says, and its figures are those of the kept results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from benchmarks import figures, sizing
from dispatcher.config import Config, load
from dispatcher.engine.explanation import explain
from dispatcher.engine.ingest import Ingest
from dispatcher.engine.runtime import create_providers

ROOT = Path(__file__).parents[1]
FOLDERS = ("dispatcher", "benchmarks", "tests", "grafana", "k8s", "docs", ".ci")

FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^ *\[[^]]+\]:\s*(\S+)", re.MULTILINE)
SOURCE = re.compile(r"(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
EXAMPLE = re.compile(r"^#+ ([^\n]+)\n(?:(?!^#).)*?^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
SIZING = re.compile(r"<!-- sizing -->\n(.*?)\n<!-- end -->", re.DOTALL)
SECRETS = {"TWILIO_AUTH_TOKEN": "token", "ACME_TOKEN": "other"}
PATH = re.compile(rf"(?:{'|'.join(map(re.escape, FOLDERS))})(?:/[\w.-]+)+/?")
"""A path of this repository, as opposed to a pattern or a placeholder."""


class Asked(NamedTuple):
    """A message, and the limits it has to meet."""

    limits: set[str]
    channel: str = "sms"
    sender: str = "+15005550006"
    tenant: str = "default"


LIMITED = {
    "A carrier shared by two providers": Asked(
        {"provider:twilio-eu", "provider:gateway", "carrier:de-telekom"}
    ),
    "One segment per second and sender number": Asked(
        {"provider:twilio-us", "numbers/+15005550007"}, sender="+15005550007"
    ),
    "WhatsApp: one message per recipient in 6 seconds": Asked(
        {"provider:whatsapp", "pairs"}, "whatsapp"
    ),
    "2,000 a day in Berlin": Asked({"provider:twilio-eu"}),
    "Two cells": Asked({"provider:gateway", "provider:twilio-us", "carrier:de-telekom"}),
    "A tenant": Asked({"provider:twilio-eu", "tenant:acme"}, tenant="acme"),
}
"""What a message meets in each example of docs/."""


def documents(root: Path) -> list[Path]:
    """The documentation of a repository."""
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("grafana/*.md")])


def broken(page: Path, root: Path) -> Iterator[str]:
    """What a page points to and is not there."""
    prose = FENCE.sub("", page.read_text())
    text = CODE.sub("", prose)
    links = [first or second for first, second in LINK.findall(text)] + SOURCE.findall(text)
    for link in links:
        if not re.match(r"[a-z][a-z0-9+.-]*:", link) and not leads_somewhere(link, page, root):
            yield f"{page.relative_to(root)}: link {link}"
    for code in CODE.findall(prose):
        if PATH.fullmatch(code) and not (root / code).exists():
            yield f"{page.relative_to(root)}: path {code}"


def leads_somewhere(link: str, page: Path, root: Path) -> bool:
    name, _, anchor = unquote(link).partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists() or not target.is_relative_to(root.resolve()):
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target)


def anchors(page: Path) -> set[str]:
    """The anchors GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 1
        unique = slug
        while unique in found:
            unique = f"{slug}-{number}"
            number += 1
        found.add(unique)
    return found


def test_the_documentation_points_to_what_exists() -> None:
    pages = documents(ROOT)
    assert ROOT / "CHANGELOG.md" in pages
    assert [line for page in pages for line in broken(page, ROOT)] == []


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/limits.md").write_text("# Limits\n\n## How a rate *holds*\n\n## Limits\n")
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "[gone](docs/gone.md)",
        "[outside](../outside.md)",
        "[no such heading](docs/limits.md#nowhere)",
        "[here](#nowhere)",
        "![picture](docs/gone.png 'title')",
        "[later]\n\n[later]: docs/gone.md",
        '<img src="docs/gone.png">',
        "see `docs/gone.md`",
    ],
)
def test_a_broken_link_is_found(repository: Path, text: str) -> None:
    page = repository / "README.md"
    page.write_text(text)
    assert len(list(broken(page, repository))) == 1


def test_what_exists_passes(repository: Path) -> None:
    page = repository / "README.md"
    page.write_text(
        "# Title\n[a](docs/limits.md#how-a-rate-holds) [b](docs/limits.md#limits-1) [c](#title)\n"
        "[d](https://example.org/gone) [e](docs) [f](mailto:a@example.org)\n"
        "`docs/limits.md` `docs/*.md` `docs/NAME.md …` `[x](gone.md)` `other/gone.md`\n"
        "```\n[inside code](gone.md)\n```\n"
    )
    assert list(broken(page, repository)) == []


def examples() -> dict[str, str]:
    """The configurations in docs/, by the heading they stand under."""
    pages = [page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))]
    return {heading: text for page in pages for heading, text in EXAMPLE.findall(page)}


def met(config: Config, asked: Asked) -> set[str]:
    """The limits that a message meets, at all providers of its route."""
    ingest = Ingest(config, create_providers(config))
    choices = explain(ingest, asked.channel, "+4915112345601", asked.sender, asked.tenant).choices
    return {name for choice in choices for name in (*choice.limits, *choice.recipient)}


def test_every_example_is_looked_at() -> None:
    pages = (ROOT / "docs").glob("*.md")
    assert sum(page.read_text().count("```toml") for page in pages) == len(LIMITED)
    assert examples().keys() == LIMITED.keys()


@pytest.mark.parametrize("heading", LIMITED)
def test_an_example_limits_what_it_says(heading: str, tmp_path: Path) -> None:
    path = tmp_path / "dispatcher.toml"
    path.write_text(examples()[heading])
    asked = LIMITED[heading]
    assert met(load(path, SECRETS), asked) == asked.limits


def test_the_sizing_follows_the_results() -> None:
    (shown,) = SIZING.findall((ROOT / "docs/sizing.md").read_text())
    assert shown == figures.markdown(sizing.table(sizing.costs(), sizing.Load()))


def test_sizing_by_hand() -> None:
    cost = sizing.Costs({"plain": sizing.Sending(50.0, 2.0)}, 0.5, 50.0, 2000, 100, 40, 60)
    table = sizing.table(cost, sizing.Load(rate=30_000, answer=0.1, headroom=0.25))
    assert [row[1] for row in table.rows] == [
        "50.0", "2", "4,000", "2,000", "2.00",
        "0.50", "0.07", "1", "20",
        "50.0", "1.56", "3", "400",
        "4.32", "6.48",
    ]  # fmt: skip
