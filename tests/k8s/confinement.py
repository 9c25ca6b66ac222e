"""Runs a command as a container would be: a read-only root, a user without rights.

Where this needs rights that the tests do not have (root, mount namespaces) it is a plain process.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

SETUP = 'mount -o remount,bind,ro / && mount -t tmpfs -o mode=1777 tmpfs "$0" && cd / && exec "$@"'
"""A shell script; `$0` is what stays writable."""
READING = "-all,+dac_read_search"
"""The only capability: the interpreter and the test's files are in root's own folders here."""


def confined(command: Sequence[str], user: int, writable: Path) -> list[str]:
    """The command that runs another with a read-only root and an empty folder in `writable`. It is
    the same process in the end, so signals reach it."""
    writable.mkdir(exist_ok=True)
    return [
        *("unshare", "--mount", "sh", "-c", SETUP, str(writable)),
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"),
        *(f"--inh-caps={READING}", f"--ambient-caps={READING}", f"--bounding-set={READING}"),
        *command,
    ]


@functools.cache
def can_confine(folder: Path) -> bool:
    """Whether this machine lets us."""
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")):
        return False
    command = confined(["true"], 10001, folder / "tmp")
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


@pytest.fixture(scope="session")
def confinable(tmp_path_factory: pytest.TempPathFactory) -> bool:
    return can_confine(tmp_path_factory.mktemp("confine"))
