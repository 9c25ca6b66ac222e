"""Who may import whom. The rules are data; the last tests show that they can fail."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import dispatcher

ROOT = Path(dispatcher.__file__).parent

VOCABULARY = {
    "address": set(),
    "bodies": {"msgspec"},
    "client": {"aiohttp", "msgspec"},
    "config": {"msgspec"},
    "convert": {"msgspec"},
    "errors": set(),
    "failpoints": set(),
    "exchange": {"msgspec"},
    "messages": {"msgspec"},
    "metrics": {"msgspec", "prometheus_client"},
    "operator_bodies": {"msgspec"},
    "settings": {"msgspec"},
    "shares": set(),
    "display": {"msgspec"},
    "toml": set(),
    "template": {"msgspec"},
    "limits": {"msgspec"},
    "units": {"msgspec"},
}
"""Layer 0: the modules, and what each may import besides the standard library."""

ONE = {"policy", "store", "transport", "providers"}
PACKAGES: dict[str, set[str]] = {
    **{name: set() for name in ONE},
    "engine": ONE,
    "web": ONE | {"engine"},
    "cli": ONE | {"engine", "web", "simulator"},
    "simulator": set(),
    "__main__": {"cli"},
    "__init__": set(),
}
"""Layers 1 to 3: the packages each may import besides itself and layer 0. `cli` starts the other
two of its layer."""

PURE = {"policy", "providers"}
INPUT_OUTPUT = {"asyncio", "http", "select", "selectors", "socket", "ssl", "subprocess", "urllib3"}
"""Not for pure packages; nor is any third-party package but msgspec."""

SCRIPTS = {"policy/build_carriers.py": {"phonenumbers"}}
"""Run by a person to renew a data file, never imported; and the packages they need for it."""


class Import(NamedTuple):
    """One import, by its absolute dotted name."""

    path: Path
    line: int
    name: str


def imports(root: Path) -> Iterator[Import]:
    """Every import under a package, also inside functions and for typing only."""
    for path in sorted(root.rglob("*.py")):
        package = (root.name, *path.relative_to(root).parts[:-1])
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            for name in imported(node, package):
                yield Import(path, getattr(node, "lineno", 0), name)


def imported(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            return [f"{base}.{alias.name}" for alias in node.names]
        case ast.Call(args=[ast.Constant(value=str(name)), *_]) if called(node) in {
            "import_module",
            "__import__",
        }:
            return [name]
    return []


def called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def violations(root: Path) -> list[str]:
    """One line for every import against the rules."""
    found = []
    for item in imports(root):
        file = item.path.relative_to(root)
        if item.name.split(".")[0] in SCRIPTS.get(file.as_posix(), ()):
            continue
        reason = objection(owner(file), item.name, root.name)
        if reason:
            found.append(f"{file}:{item.line} imports {item.name}: {reason}")
    return found


def owner(path: Path) -> str:
    """The layer-0 module or the package a file belongs to."""
    return path.parts[0].removesuffix(".py")


def objection(importer: str, name: str, project: str) -> str:
    top, *rest = name.split(".")
    if importer not in VOCABULARY and importer not in PACKAGES:
        return f"{importer} is in no layer"
    if "/".join(rest[:2]) + ".py" in SCRIPTS:
        return "a script, not a module"
    if top == project:
        return own_objection(importer, rest[0] if rest else "__init__")
    if top == "redis" and importer != "store":
        return "Redis is spoken in store only"
    if importer in PURE and (top in INPUT_OUTPUT or name.startswith("urllib.request")):
        return f"{importer} is pure"
    if top in sys.stdlib_module_names:
        return ""
    if importer in PURE and top != "msgspec":
        return f"{importer} is pure"
    if importer in VOCABULARY and top not in VOCABULARY[importer]:
        return "not among its third-party packages"
    return ""


def own_objection(importer: str, target: str) -> str:
    if target in VOCABULARY or target == importer or target not in PACKAGES:
        return ""  # what is neither module nor package is a name of dispatcher/__init__.py
    if importer in VOCABULARY:
        return "layer 0 imports layer 0"
    allowed = PACKAGES[importer] | {"__init__"}
    return "" if target in allowed else f"{importer} may import {sorted(allowed)} and layer 0"


def test_the_layers_hold() -> None:
    assert violations(ROOT) == []


def test_every_package_has_rules() -> None:
    found = {owner(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")}
    assert found <= PACKAGES.keys() | VOCABULARY.keys()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("messages.py", "import dispatcher.store.keys"),
        ("messages.py", "from dispatcher import policy"),
        ("messages.py", "import aiohttp"),
        ("client.py", "import prometheus_client"),
        ("policy/retry.py", "from dispatcher.store import keys"),
        ("policy/retry.py", "from ..providers.twilio import ERRORS"),
        ("policy/retry.py", "import asyncio"),
        ("providers/twilio.py", "def f():\n    import socket"),
        ("providers/twilio.py", "from urllib.request import urlopen"),
        ("providers/twilio.py", "import httptools"),
        ("transport/http.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import redis"),
        ("engine/pump.py", "from redis.asyncio import Redis"),
        ("engine/pump.py", "from dispatcher.web.app import app"),
        ("engine/pump.py", "from dispatcher.simulator import wire"),
        ("store/queue.py", "from dispatcher import engine"),
        ("simulator/twilio.py", "import dispatcher.providers.twilio"),
        ("simulator/twilio.py", "import importlib\nimportlib.import_module('dispatcher.engine')"),
        ("web/app.py", "from ..cli import main"),
        ("common.py", "import os"),
        ("policy/carriers.py", "from .build_carriers import write"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "dispatcher" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    (line,) = violations(tmp_path / "dispatcher")
    assert line.startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("client.py", "import aiohttp"),
        ("store/queue.py", "import redis.asyncio\nfrom . import keys\nfrom .keys import lane"),
        ("store/queue.py", "from dispatcher import __version__, errors"),
        ("policy/retry.py", "import random\nfrom dispatcher.errors import SendError"),
        ("engine/pump.py", "from ..store import keys\nfrom dispatcher.policy import retry"),
        ("cli/main.py", "from dispatcher.web import app\nfrom dispatcher.simulator import wire"),
        ("__main__.py", "from dispatcher.cli.main import main"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "dispatcher" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert violations(tmp_path / "dispatcher") == []
