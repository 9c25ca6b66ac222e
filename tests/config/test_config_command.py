from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dispatcher import __version__
from dispatcher.cli import main as command
from dispatcher.cli.main import COMMANDS, main
from dispatcher.errors import StoreUnavailable

FILE = """
[providers.twilio-eu]
kind = "twilio"
account_sid = "AC00000000000000000000000000000001"
auth_token = "env:TWILIO_AUTH_TOKEN"
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a configuration whose secret is set."""
    (tmp_path / "dispatcher.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPATCHER_CONFIG", raising=False)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "hunter2")
    return tmp_path


def test_check_says_what_it_found(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{directory}/dispatcher.toml: ok (1 provider, 0 senders")
    assert err == ""


def test_check_finds_a_missing_secret(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWILIO_AUTH_TOKEN")
    assert main(["config", "check"]) == 2
    assert capsys.readouterr().err == (
        f"dispatcher: {directory}/dispatcher.toml: providers.twilio-eu.auth_token needs the "
        "environment variable TWILIO_AUTH_TOKEN, which is not set\n"
    )


def test_check_asks_the_kind_about_its_own_keys(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "dispatcher.toml").write_text(FILE + "acount_sid = 'x'\n")
    assert main(["config", "check"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"dispatcher: {directory}/dispatcher.toml: ")
    assert 'acount_sid is not a known key; did you mean "account_sid"?' in err
    assert err.count("\n") == 1


def test_show_prints_toml_or_json(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show"]) == 0
    as_toml = tomllib.loads(capsys.readouterr().out)
    assert main(["config", "show", "--json"]) == 0
    out = capsys.readouterr().out
    assert {section: table for section, table in json.loads(out).items() if table} == as_toml
    assert as_toml["providers"]["twilio-eu"]["auth_token"] == "***"
    assert "hunter2" not in out


@pytest.mark.parametrize(
    "args",
    [
        ["--config", "a.toml", "config", "show"],
        ["config", "--config", "a.toml", "show"],
        ["config", "show", "--config", "a.toml"],
        ["--config", "dispatcher.toml", "config", "show", "--config", "a.toml"],
    ],
)
def test_config_is_taken_before_and_after_the_command(
    directory: Path, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    (directory / "a.toml").write_text("[worker]\nport = 4711\n")
    assert main(args) == 0
    assert "port = 4711" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["nope"], "dispatcher: there is no command nope; `dispatcher --help` lists all"),
        (["config", "show", "--nope"], "dispatcher: No such option '--nope'."),
        (["config", "show", "--config", "x.toml"], "dispatcher: --config: there is no file x.toml"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    directory: Path, capsys: pytest.CaptureFixture[str], args: list[str], line: str
) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{line}\n")


def test_without_a_command_help_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    err = capsys.readouterr().err
    assert all(f"  {name} " in err for name in COMMANDS)


@pytest.mark.parametrize(
    ("raised", "code", "err"),
    [
        (StoreUnavailable("no store at redis://h:\nrefused"), 1, "dispatcher: no store at "),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_command_raises_becomes_an_exit_code(
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
    err: str,
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("dispatcher.cli.config.load_config", fail)
    assert main(["config", "show"]) == code
    shown = capsys.readouterr().err.strip()
    assert shown.startswith(err)
    assert shown.count("\n") == 0


def test_the_module_runs_and_imports_only_what_it_needs(directory: Path) -> None:
    root = str(Path(command.__file__).parents[2])
    code = (
        "import sys; from dispatcher.cli.main import main; main(['--version']);"
        "print(sorted({'msgspec', 'redis', 'aiohttp', 'rich'} & set(sys.modules)))"
    )
    environ = os.environ | {"PYTHONPATH": root}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == f"dispatcher {__version__}\n[]\n"
    run = [sys.executable, "-m", "dispatcher", "config", "show", "--config", "x"]
    done = subprocess.run(run, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "dispatcher: --config: there is no file x\n")


def test_a_reader_that_goes_away_is_no_error(directory: Path) -> None:
    environ = os.environ | {"PYTHONPATH": str(Path(command.__file__).parents[2])}
    run = [sys.executable, "-m", "dispatcher", "config", "show"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(run, env=environ, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
