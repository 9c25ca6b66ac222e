"""Every relative link and every path named in the documentation exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("dispatcher", "benchmarks", "tests", "grafana", "k8s", "docs", ".ci")

FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^ *\[[^]]+\]:\s*(\S+)", re.MULTILINE)
SOURCE = re.compile(r"(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
PATH = re.compile(rf"(?:{'|'.join(map(re.escape, FOLDERS))})(?:/[\w.-]+)+/?")
"""A path of this repository, as opposed to a pattern or a placeholder."""


def documents(root: Path) -> list[Path]:
    """The documentation of a repository."""
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])


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
