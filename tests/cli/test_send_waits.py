"""`send` waits for a store in trouble, says why, and tells how to go on where it gives up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from dispatcher.cli.main import main
from dispatcher.engine.ingest import OpenBatch
from tests.campaign import twilio
from tests.cli.command import HI, SEND, csv_of, number
from tests.faults.server import Server

Begin = Callable[..., Any]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "data").mkdir()
    with Server(tmp_path / "data").running() as server:
        yield server


@pytest.fixture
def send(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], None], Callable[[], None]], int]:
    """Send a file of 3 parts; what is done when its batch has begun and when it waits."""
    config = tmp_path / "dispatcher.toml"
    config.write_text(f'[store]\nurl = "{server.url}"\n' + twilio("http://127.0.0.1:9"))
    rows = tmp_path / "rows.csv"
    rows.write_text(csv_of(f"{number(i)},Ann" for i in range(5000)))

    def run(begun: Callable[[], None], waits: Callable[[], None]) -> int:
        begin = OpenBatch.begin

        async def begin_and_more(*given: Any) -> None:
            await begin(*given)
            begun()

        def said(_: object, why: str) -> None:
            print(f"waiting: {why}")
            waits()

        monkeypatch.setattr("dispatcher.cli.progress.Progress.waiting", said)
        monkeypatch.setattr(OpenBatch, "begin", begin_and_more)
        return main(["send", str(rows), *SEND, *HI, "--config", str(config)])

    return run


def bound(server: Server, maxmemory: int) -> None:
    with redis.Redis(port=server.port) as client:
        client.config_set("maxmemory", maxmemory)


def test_for_memory(server: Server, send: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    assert send(lambda: bound(server, 1_000_000), lambda: bound(server, 0)) == 0
    out = capsys.readouterr().out
    assert out.endswith("5000 accepted, 0 rejected\n")
    assert "waiting: store has no room left (enqueue)" in out or "of maxmemory are in use" in out
    assert "script" not in out


def test_not_for_ever(
    server: Server,
    send: Begin,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dispatcher.cli.send.PATIENCE", 0.5)
    assert send(server.kill, lambda: None) == 1
    said = capsys.readouterr()
    batch = said.err.splitlines()[0].removeprefix("batch ")
    assert said.err.splitlines()[-1].startswith("dispatcher: store cannot be reached")
    assert said.err.splitlines()[-1].endswith(f"; continue with --resume {batch}")
    assert "waiting: store cannot be reached" in said.out
