"""Every command that the README shows is run here, as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_HERE = ("./run test", "./run check", "./run bench")
"""The suite itself, and what takes minutes."""


def blocks(language: str) -> list[str]:
    readme = (ROOT / "README.md").read_text()
    return [text for kind, text in BLOCK.findall(readme) if kind == language]


def script() -> str:
    lines = [line for text in blocks("sh") for line in text.splitlines()]
    return "\n".join(line for line in lines if not line.startswith(NOT_HERE))


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


@pytest.mark.skipif(
    not (shutil.which("bash") and shutil.which("curl")), reason="the README uses bash and curl"
)
def test_every_command_runs(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text(blocks("csv")[0])
    (tmp_path / "dispatcher.toml").write_text(blocks("toml")[0])
    (tmp_path / "run").symlink_to(ROOT / "run")
    commands = script().replace("./run demo", "./run demo --messages 600")
    ending = "\nfor job in 3 2; do kill %$job; wait %$job; done; kill %1\n"
    shell = subprocess.Popen(
        ["bash", "-emc", commands + ending],
        cwd=tmp_path,
        env=os.environ | {"DISPATCHER_CONFIG": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = shell.communicate(timeout=240)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, printed
    assert "every accepted message is accounted for" in printed
    assert "3 would be accepted" in printed
    assert "3 accepted, 0 rejected" in printed
    assert "3 sent" in printed
    assert re.search(r"^sent +3 *$", printed, re.MULTILINE), printed
    assert "twilio-eu/sms/de-telekom" in printed
    assert "carrier:de-telekom: 75/s -> 50/s, for 1h" in printed
    assert re.search(r"^carrier:de-telekom +50/s ", printed, re.MULTILINE), printed
    assert "carrier:de-telekom: 50/s -> 75/s, as configured" in printed
    assert '"accepted":1' in printed
    assert "Traceback" not in printed
