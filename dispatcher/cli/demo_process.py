"""The processes of the demo: `dispatcher` commands that cannot outlive it."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Self

from dispatcher.errors import DispatcherError

STOP_SECONDS = 20.0
"""How long a child may take to drain before it is killed."""
LOG_LINES = 8


class Child:
    """One command in a session of its own, so that Ctrl-C reaches only the demo. stderr goes to
    `<name>.log` in the demo's folder, stdout to the demo."""

    def __init__(self, name: str, log: Path, process: Process) -> None:
        self.name = name
        self._log = log
        self._process = process

    @classmethod
    async def start(cls, folder: Path, name: str, *command: str) -> Self:
        """Start `dispatcher COMMAND`; it ends with this process, however that ends."""
        path = folder / f"{name}.log"
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "dispatcher.cli.demo_child", str(folder), *command,
                stdin=PIPE, stdout=PIPE, stderr=log, env=_environment(), start_new_session=True,
            )  # fmt: skip
        return cls(name, path, process)

    async def line(self) -> str:
        """The next line it prints. Raises ChildDied when it ends instead."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            raise self.died()
        return line.decode().rstrip()

    def check(self) -> None:
        """Raises ChildDied when it has ended."""
        if self._process.returncode is not None:
            raise self.died()

    def died(self) -> ChildDied:
        """The end of this child as an error: its exit code and the last lines of its log."""
        code = self._process.returncode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        said = "; it said:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""
        return ChildDied(f"the {self.name} process {how}{said}")

    async def stop(self) -> None:
        """End it as a service is ended, by SIGTERM; by SIGKILL if it does not drain in time."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


class ChildDied(DispatcherError):
    """A process of the demo ended too early. The text has several lines."""


def _environment() -> dict[str, str]:
    """Ours, without configuration of another system and without a proxy in between."""
    kept = {name: value for name, value in os.environ.items() if not _foreign(name)}
    return kept | {"PYTHONUNBUFFERED": "1"}


def _foreign(name: str) -> bool:
    return name.startswith("DISPATCHER_") or name.lower().endswith("_proxy")
