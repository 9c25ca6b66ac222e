"""One measurement: enqueue everything, start one worker process, watch the messages arrive."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis

from benchmarks import machine
from benchmarks.rivals import environment
from dispatcher.store.embedded import EmbeddedStore

ROOT = Path(__file__).parents[2]
LOOK = 0.02
"""Seconds between two looks at the sink."""
GRACE = 0.5
"""Seconds in which a worker settles what was answered, before it is ended."""
PATIENCE = 30.0
"""Seconds without an arrival after which a worker is given up."""
CONFIG = """
[store]
data_dir = "{folder}/store"
[providers.sink]
kind = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = "token"
base_url = "{sink}"
concurrency = 256
[worker]
port = 0
"""
TEXT = "Hi {name}, your code is {code}. Reply STOP"


class Commands(NamedTuple):
    """How a contestant enqueues and how its worker is started; `records` is stdin of the first."""

    enqueue: list[str]
    work: list[str]
    records: str = ""


class Arrival(NamedTuple):
    """How many messages the sink had answered at a time (seconds)."""

    at: float
    messages: int


class Measurement(NamedTuple):
    """Messages per second from the first arrival to the last, and the conditions of the run."""

    per_second: float
    conditions: dict[str, Any]


def rate(arrivals: list[Arrival]) -> float:
    """Messages per second between the first look that saw a message and the first that saw all.

    Raises ValueError where all were seen at once: too few messages to measure.
    """
    total = arrivals[-1].messages
    first = next(arrival for arrival in arrivals if arrival.messages)
    last = next(arrival for arrival in arrivals if arrival.messages == total)
    if last is first:
        raise ValueError(f"{total} messages came between two looks: take more")
    return (last.messages - first.messages) / (last.at - first.at)


def measure(name: str, messages: int) -> Measurement:
    """Let `name`, a rival or "dispatcher", send messages on a fresh store to a fresh sink.

    Raises RuntimeError where a process fails, or not exactly `messages` arrive.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        _sink() as sink,
        EmbeddedStore.join(Path(folder, "store")) as store,
    ):
        commands = _commands(name, Path(folder), store.url, sink.url, messages)
        _enqueue(commands)
        arrivals = _watch(commands.work, sink, messages, Path(folder, "worker.log"))
        with redis.Redis.from_url(store.url) as client:
            conditions = machine.describe(client.info())
    return Measurement(rate(arrivals), conditions)


class Sink:
    """`benchmarks.sink` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._asked, self._answers = process.stdin, process.stdout
        self.url = f"http://127.0.0.1:{int(self._answers.readline())}"

    def arrived(self) -> int:
        """Messages answered so far."""
        self._asked.write("\n")
        self._asked.flush()
        return int(self._answers.readline())


@contextmanager
def _sink() -> Iterator[Sink]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        yield Sink(process)


def _commands(name: str, folder: Path, store: str, sink: str, messages: int) -> Commands:
    if name == "dispatcher":
        return _own_commands(folder, sink, messages)
    python = environment.prepare(name)
    module, arguments = f"benchmarks.rivals.{name}_worker", [store, sink, str(messages)]
    call = [str(python), "-m", module]
    return Commands([*call, "enqueue", *arguments], [*call, "work", *arguments])


def _own_commands(folder: Path, sink: str, messages: int) -> Commands:
    path = folder / "dispatcher.toml"
    path.write_text(CONFIG.format(folder=folder, sink=sink))
    call = [sys.executable, "-m", "dispatcher"]
    send = ["send", "-", "--channel", "sms", "--from", "+15005550006", "--text", TEXT]
    lines = (f"+49151{index:08d},Anna,{index:06d}\n" for index in range(messages))
    return Commands(
        [*call, *send, "--config", str(path)],
        [*call, "worker", "--config", str(path)],
        "to,name,code\n" + "".join(lines),
    )


def _enqueue(commands: Commands) -> None:
    done = subprocess.run(
        commands.enqueue, input=commands.records, cwd=ROOT, env=_environ(),
        text=True, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(commands.enqueue)} failed:\n{done.stderr[-2000:]}")


def _watch(command: list[str], sink: Sink, messages: int, log: Path) -> list[Arrival]:
    """Run the worker until all messages have arrived; `log` takes what it prints."""
    with log.open("w") as output:
        worker = subprocess.Popen(
            command, cwd=ROOT, env=_environ(), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        arrivals = _look(worker, sink, messages)
        time.sleep(GRACE)
    finally:
        _end(worker)
    arrived = sink.arrived()
    if arrived != messages:
        tail = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{messages} enqueued, {arrived} arrived at the sink:\n{tail}")
    return arrivals


def _look(worker: subprocess.Popen[bytes], sink: Sink, messages: int) -> list[Arrival]:
    """Arrivals until all messages are there, the worker has ended or nothing comes any more."""
    arrivals = [Arrival(time.perf_counter(), 0)]
    moved = time.monotonic()
    while arrivals[-1].messages < messages:
        time.sleep(LOOK)
        arrivals.append(Arrival(time.perf_counter(), sink.arrived()))
        if arrivals[-1].messages > arrivals[-2].messages:
            moved = time.monotonic()
        elif worker.poll() is not None or time.monotonic() - moved > PATIENCE:
            break
    return arrivals


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(10)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _environ() -> dict[str, str]:
    """Without PYTHONPATH, which would put foreign packages into a rival's environment."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
