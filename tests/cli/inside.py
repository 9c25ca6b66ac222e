"""Runs commands in the process of the test: the same code a person runs, without the half second
that a process of its own takes to start."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.cli.main import main
from tests.cli.command import Result


class Inside:
    """Commands in the directory of the test."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *args: str) -> Result:
        self._capsys.readouterr()
        code = main(args)
        out, err = self._capsys.readouterr()
        lines = err.splitlines()
        named = [line for line in lines if line.startswith("batch ")]
        rest = [line for line in lines if line not in named]
        return Result(code, out, rest, named[0].removeprefix("batch ") if named else "")

    def send(self, file: str, *args: str) -> Result:
        """`send` by SMS from SHOP."""
        return self.run("send", file, "--channel", "sms", "--from", "SHOP", *args)

    async def call(self, *args: str) -> Result:
        """The same while the event loop of the test goes on."""
        return await asyncio.to_thread(self.run, *args)
