"""The environment of a rival: a venv of its own with the exact versions of `NAME.txt`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache"


def requirements(rival: str) -> list[str]:
    """The pinned packages of a rival, `name==version` each."""
    return (HERE / f"{rival}.txt").read_text().split()


def versions(rival: str) -> dict[str, str]:
    """Package to version."""
    pins = (line.partition("==") for line in requirements(rival))
    return {name: version for name, _, version in pins}


def installed(rival: str) -> Path | None:
    """The interpreter of a rival's environment, None where it is not there as pinned."""
    folder = CACHE / "rivals" / rival
    marker = folder / "installed"
    if not marker.exists() or marker.read_text().split() != requirements(rival):
        return None
    return folder / "bin" / "python"


def prepare(rival: str) -> Path:
    """The interpreter of a rival's environment, made on first use and when a version changed.

    Raises CalledProcessError where a package cannot be installed.
    """
    if python := installed(rival):
        return python
    print(f"installing {rival} (once)", flush=True)
    folder = CACHE / "rivals" / rival
    shutil.rmtree(folder, ignore_errors=True)
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", str(HERE / f"{rival}.txt")], check=True)
    (folder / "installed").write_text("\n".join(requirements(rival)))
    return python
