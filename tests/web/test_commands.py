"""`api`, `run --sandbox` and `send --api` as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dispatcher.store.opening import Store
from tests.web.conftest import PROVIDER, TENANTS, Serve

DISPATCHER = (sys.executable, "-m", "dispatcher")


@contextmanager
def started(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command and the address it announces."""
    process = subprocess.Popen([*DISPATCHER, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().split()[-1]
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)
        process.stdout.close()


def test_api_ends_by_sigterm_and_says_when_its_port_is_taken(
    config_file: Callable[[str], Path],
) -> None:
    config = str(config_file(PROVIDER))
    with started("api", "--config", config, "--port", "0") as (process, url):
        with urllib.request.urlopen(f"{url}/healthz") as response:
            assert json.load(response) == {"status": "ok"}
        port = url.rpartition(":")[2]
        second = subprocess.run(
            [*DISPATCHER, "api", "--config", config, "--port", port], capture_output=True, text=True
        )
        assert second.returncode == 1
        assert len(second.stderr.splitlines()) == 1
        assert port in second.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_another_host_needs_tenants(config_file: Callable[[str], Path]) -> None:
    command = [*DISPATCHER, "api", "--config", str(config_file(PROVIDER)), "--host", "0.0.0.0"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 2
    assert "tenants" in found.stderr


def test_the_sandbox_sends_what_its_hint_says_and_leaves_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path), "DISPATCHER__API__PORT": "nonsense"}
    process = subprocess.Popen(
        [*DISPATCHER, "run", "--sandbox", "--port", "0"],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[-1]
        body = process.stdout.readline().split("-d ")[1].strip().strip("'")
        while not ready(url):
            pass
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/messages", body.encode(), headers)
        with urllib.request.urlopen(request) as response:
            batch = json.load(response)["batch"]
        sent = 0
        while sent < 2:
            with urllib.request.urlopen(f"{url}/v1/batches/{batch}") as response:
                sent = json.load(response)["sent"]
    finally:
        process.terminate()
        assert process.wait(90) == 0
        process.stdout.close()
    assert list(tmp_path.iterdir()) == []


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz"):
            return True
    except OSError:
        return False


def send(
    url: str, file: Path, *more: str, token: str = "acme-token"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DISPATCHER, "send", str(file), "--channel", "sms", "--from", "shop", "--text", "Hi {n}",
         "--api", url, "--json", *more],
        capture_output=True, text=True, env=os.environ | {"DISPATCHER_TOKEN": token},
    )  # fmt: skip


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """25,000 records, three calls; of every thousand one has no number and one too few columns."""
    path = tmp_path / "campaign.csv"
    lines = ["to,n"]
    for n in range(25_000):
        number = f"+4915{n:08d}" if n % 1000 != 500 else "none"
        lines.append(f"{number},{n}" if n % 1000 != 700 else number)
    path.write_text("\n".join(lines) + "\n")
    return path


async def test_a_file_over_http_is_one_batch_and_can_be_resumed(
    config_file: Callable[[str], Path], store: Store, campaign: Path, tmp_path: Path
) -> None:
    rejects = tmp_path / "rejects.csv"
    config = str(config_file(PROVIDER + TENANTS))
    with started("api", "--config", config, "--port", "0") as (_, url):
        while not ready(url):
            pass
        found = send(url, campaign, "--rejects", str(rejects))
        assert found.returncode == 1, found.stderr
        report = json.loads(found.stdout)
        again = send(url, campaign, "--resume", report["batch"], "--rejects", str(rejects))
        changed = send(url, campaign, "--resume", report["batch"], "--class", "urgent")
        stranger = send(url, campaign, "--resume", report["batch"], token="globex-token")
    assert (report["accepted"], report["rejected"]) == (24_950, 50)
    assert json.loads(again.stdout) == report
    assert (changed.returncode, stranger.returncode) == (2, 2)
    view = await store.inspector.batch(report["batch"])
    assert view is not None
    assert (view.total, view.tenant) == (24_950, "acme")
    refused = [line.split(",")[:3] for line in rejects.read_text().splitlines()[1:]]
    assert ["502", "500", "invalid_recipient"] in refused
    assert ["702", "700", "wrong_columns"] in refused
    assert len(refused) == 50
    parts, _ = await store.inspector.parts(report["batch"])
    assert sorted(parts) == [0, 10_000, 20_000]


async def test_duplicates_and_hopeless_files(
    serve: Serve, store: Store, tmp_path: Path, config_file: Callable[[str], Path]
) -> None:
    config = str(config_file(PROVIDER))
    twice, bad = tmp_path / "twice.csv", tmp_path / "bad.csv"
    twice.write_text("to,n\n+4915550000001,1\n+49 1555 0000001,2\n+4915550000002,3\n")
    bad.write_text("to,n\nx,1\ny,2\n")
    with started("api", "--config", config, "--port", "0") as (_, url):
        while not ready(url):
            pass
        deduped, hopeless = send(url, twice, "--dedupe"), send(url, bad)
    report = json.loads(deduped.stdout)
    assert (report["accepted"], report["rejected"], report["duplicates"]) == (2, 0, 1)
    assert deduped.returncode == 0
    assert json.loads(hopeless.stdout)["batch"] is None
    assert hopeless.returncode == 1
    assert await store.inspector.batches() == [report["batch"]]
