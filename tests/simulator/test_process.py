"""Settings files, and the simulator as a process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from dispatcher.errors import ConfigError
from dispatcher.simulator import Latency, Refuse, Settings, WebhookAccount, load_settings

TOML = """
seed = 7
[[accounts]]
kind = "webhook"
name = "shop"
rate = 50
latency = { mean = 0.02, jitter = 0.01 }
[[faults]]
fault = "refuse"
status = 500
probability = 0.03
"""
JSON = """{"seed": 7, "accounts": [{"kind": "webhook", "name": "shop", "rate": 50,
"latency": {"mean": 0.02, "jitter": 0.01}}],
"faults": [{"fault": "refuse", "status": 500, "probability": 0.03}]}"""


@pytest.mark.parametrize(("name", "text"), [("s.toml", TOML), ("s.json", JSON)])
def test_settings_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    account = WebhookAccount(receiver="shop", rate=50, latency=Latency(0.02, 0.01))
    expected = Settings((account,), (Refuse(500, probability=0.03),), 7)
    assert load_settings(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("s.toml", "sed = 7", "sed"),
        ("s.toml", "seed = ", "s.toml"),
        ("s.json", "{", "s.json"),
        ("s.json", '{"accounts": [{"kind": "pigeon"}]}', "pigeon"),
        ("s.json", '{"accounts": [{"kind": "twilio"}, {"kind": "twilio"}]}', "more than once"),
        ("s.json", '{"accounts": [{"kind": "twilio", "account_sid": "X"}]}', "account_sid"),
        ("s.json", '{"accounts": [{"kind": "webhook", "burst": 0}]}', "burst"),
        ("s.yaml", "", ".toml or .json"),
    ],
)
def test_wrong_settings_are_one_clear_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=r"^.*$") as raised:
        load_settings(tmp_path / name)
    assert says in str(raised.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "none.toml")


def start(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dispatcher", "simulator", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_stops_on_a_signal(number: signal.Signals) -> None:
    with start("--port", "0", "--rate", "100/s", "--fault", "500:3%") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        with urlopen(f"{line.split()[-1]}/healthz", timeout=5) as answer:
            assert answer.read() == b"ok\n"
        process.send_signal(number)
        assert process.wait(5) == 0
        assert process.communicate() == ("", "")


def test_a_port_in_use_is_one_line_and_exit_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start("--port", str(port)) as process:
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (1, "")
    assert err == f"dispatcher: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--fault", "boom"],
        ["--rate", "fast"],
        ["--rate", "5/day"],
        ["--latency", "20"],
        ["--account-sid", "AC1"],
        ["--settings", "none.toml"],
        ["--settings", "none.toml", "--auth-token", "x"],
    ],
)
def test_a_wrong_option_is_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from dispatcher.cli.main import main

    assert main(["simulator", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
