"""Commands start quickly: what takes long to load is left to those that use it."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.command import PACKAGE_ROOT

WITHOUT_HTTP = ("send", "worker", "explain", "status", "lanes")
"""Commands whose usual way makes no call by aiohttp and serves none."""


def test_aiohttp_is_not_loaded_by_those_that_can_do_without() -> None:
    modules = ", ".join(f"dispatcher.cli.{name}" for name in WITHOUT_HTTP)
    code = f"import sys, {modules}; print([name for name in sys.modules if name == 'aiohttp'])"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=PACKAGE_ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"
