"""Runs `dispatcher` as people do: a process of its own, in a directory of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import dispatcher
from dispatcher.messages import Envelope, Row, decode_body
from dispatcher.store.opening import Store

PACKAGE_ROOT = Path(dispatcher.__file__).parents[1]
DEADLINE = 60
"""Seconds after which a command counts as hanging."""


class Result(NamedTuple):
    """What a command left behind. `err` is free of the line that names the batch."""

    code: int
    out: str
    err: list[str]
    batch: str

    @property
    def found(self) -> Any:
        """What it printed as JSON."""
        return msgspec.json.decode(self.out)


class Commands:
    """Commands in one directory; `end` kills those that still run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(
        self, *args: object, stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> Result:
        """Run a command to its end."""
        process = self.start(*args, stdin=subprocess.PIPE, env=env)
        try:
            out, err = process.communicate(stdin, timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return _result(process.returncode, out, err)

    def start(
        self,
        *args: object,
        stdin: int = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
        group: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a command; `group` gives it a process group of its own, as a terminal does."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("DISPATCHER_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher", *map(str, args)],
            cwd=self.directory,
            env=environ | {"PYTHONPATH": str(PACKAGE_ROOT)} | dict(env or {}),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=group,
        )
        self._running.append(process)
        return process

    def send(self, file: object, *args: object, stdin: bytes | None = None) -> Result:
        """`send` by SMS from SHOP."""
        return self.run("send", file, *SEND, *args, stdin=stdin)

    async def ended(self, process: subprocess.Popen[bytes]) -> Result:
        """Wait for a started command while the event loop of the test goes on."""
        return await asyncio.to_thread(finish, process)

    async def call(self, *args: object) -> Result:
        """Run a command to its end while the event loop of the test goes on."""
        return await self.ended(self.start(*args))

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


SEND = ("--channel", "sms", "--from", "SHOP")
HI = ("--text", "Hi {name}")


def _result(code: int, out: bytes, err: bytes) -> Result:
    lines = err.decode().splitlines()
    assert not any(line.startswith("Traceback") for line in lines), err.decode()
    named = [line for line in lines if line.startswith("batch ")]
    rest = [line for line in lines if line not in named]
    return Result(code, out.decode(), rest, named[0].removeprefix("batch ") if named else "")


def killed(process: subprocess.Popen[bytes]) -> None:
    """End a process as the kernel does when memory is short."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def finish(process: subprocess.Popen[bytes]) -> Result:
    """Wait for a started process."""
    out, err = process.communicate(timeout=DEADLINE)
    return _result(process.returncode, out, err)


def batch_of(process: subprocess.Popen[bytes]) -> str:
    """The batch id that a started `send` announces."""
    assert process.stderr is not None
    return process.stderr.readline().decode().removeprefix("batch ").strip()


def csv_of(rows: Iterable[str], header: str = "to,name") -> str:
    return "\n".join([header, *rows, ""])


def number(index: int) -> str:
    """A recipient of its own for every index."""
    return f"+4915{index:09d}"


class Stored(NamedTuple):
    """One message as it waits in a queue."""

    lane: str
    envelope: Envelope
    row: Row


async def stored(store: Store, batch: str) -> list[Stored]:
    """Every message of a batch that waits in a queue, decoded, in the order of their indexes."""
    found = []
    start = len(store.keys.name("queue")) + 1
    async for key in store.client.scan_iter(store.keys.name("queue", "*"), 1000):
        lane = key.decode()[start:].rsplit(":", 2)[0]
        for _, fields in await store.client.xrange(key):
            envelope, rows = decode_body(fields[b"body"])
            assert len(rows) == int(fields[b"n"])
            if envelope.batch == batch:
                found += [Stored(lane, envelope, row) for row in rows]
    return sorted(found, key=lambda one: one.row.index)
