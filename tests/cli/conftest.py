from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.command import Commands
from tests.cli.inside import Inside

HOOK = """
[providers.hook]
kind = "webhook"
url = "http://127.0.0.1:9/webhook/demo"
"""


@pytest.fixture
def commands(tmp_path: Path, config_file: Callable[[str], Path]) -> Iterator[Commands]:
    """Commands in a directory whose configuration has one provider and the store of this test."""
    config_file(HOOK)
    commands = Commands(tmp_path)
    yield commands
    commands.end()


@pytest.fixture
def inside(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Inside:
    """Commands in this process, in the same directory."""
    monkeypatch.chdir(commands.directory)
    monkeypatch.delenv("DISPATCHER_CONFIG", raising=False)
    return Inside(capsys)
