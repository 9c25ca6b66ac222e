"""Whatever is wrong with what a command was given: one clear line on stderr, never a traceback."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dispatcher.cli import send_api
from dispatcher.cli.main import main
from dispatcher.client import Client
from tests.cli.command import HI, SEND, Commands

Refused = Callable[..., str]

NOWHERE = '[store]\nurl = "redis://127.0.0.1:1"\n'
"""A store that is not there: whoever opens it before looking at its input fails otherwise."""
HOOK = '[providers.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n'
BATCH = "01JD4Z3C7V9M2N8Q5R6S7T8V9W"
GOOD = "to,name\n+4915112345678,Ann\n"


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    commands = Commands(tmp_path)
    commands.write("dispatcher.toml", NOWHERE + HOOK)
    commands.write("good.csv", GOOD)
    return commands


@pytest.fixture
def refused(
    commands: Commands, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Refused:
    """Call the command line and return the one line it says; in a `process` or, quicker, here."""
    monkeypatch.chdir(commands.directory)
    monkeypatch.delenv("DISPATCHER_CONFIG", raising=False)

    def call(*args: object, code: int = 2, process: bool = False) -> str:
        if process:
            result = commands.run(*args)
            found, out, lines = result.code, result.out, result.err
        else:
            found = main([str(arg) for arg in args])
            out, err = capsys.readouterr()
            lines = err.splitlines()
        assert (found, out, len(lines)) == (code, "", 1), lines
        assert lines[0].startswith("dispatcher: ")
        return lines[0].removeprefix("dispatcher: ")

    return call


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("[workers]\n", 'workers is not a known key; did you mean "worker"?'),
        ("[worker]\nleese = '9s'\n", "worker.leese is not a known key"),
        ("[worker]\nport = 'x'\n", "worker.port"),
        (HOOK + "token = 'env:NO_SUCH_SECRET'\n", "NO_SUCH_SECRET, which is not set"),
        (HOOK + "uri = 'x'\n", "providers.hook.uri is not a known key"),
        (HOOK + "[[routes]]\nproviders = ['hock']\n", 'an unknown provider "hock"; known: hook'),
        ("[worker\n", "is not TOML"),
    ],
)
def test_a_wrong_configuration(refused: Refused, commands: Commands, toml: str, line: str) -> None:
    path = commands.write("dispatcher.toml", toml)
    for command in (["config", "check"], ["send", "good.csv", *SEND, *HI]):
        error = refused(*command)
        assert line in error
        assert str(path) in error or "providers.hook" in error


def test_no_configuration_names_the_places_searched(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "dispatcher.toml").unlink()
    for command in (["worker"], ["send", "x.csv", *SEND, *HI], ["status"]):
        error = refused(*command)
        assert "--config (not given)" in error
        assert "$DISPATCHER_CONFIG (not set)" in error
        assert f"{tmp_path}/dispatcher.toml (not there)" in error


def test_a_configuration_without_providers_can_send_nothing(
    refused: Refused, commands: Commands
) -> None:
    path = commands.write("dispatcher.toml", NOWHERE)
    for command in (["worker"], ["send", "good.csv", *SEND, *HI]):
        error = refused(*command)
        assert error == f"{path}: no [providers.NAME] table, nothing can be sent"


def test_an_absent_store(refused: Refused) -> None:
    error = refused("send", "good.csv", *SEND, *HI, code=1, process=True)
    assert error.startswith("store cannot be reached: ")
    assert "127.0.0.1:1" in error


def test_a_port_in_use(refused: Refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refused("simulator", "--port", port, code=1, process=True)
    assert error == f"cannot listen on 127.0.0.1:{port}: Address already in use"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty"),
        (b"\n\n", "the first line is empty; it must name the columns"),
        (b"\xef\xbb\xbf", "the first line is empty; it must name the columns"),
        (b"phone,name\n+4915112345678,Ann\n", "no column `to` (columns: phone, name)"),
        (b"to;name\n+4915112345678;Ann\n", "columns are separated by commas"),
        (b"to,name,name\n+4915112345678,a,b\n", "the header names `name` twice"),
        (b"to,,\n+4915112345678,,\n", "the header names an empty column twice"),
        (b"to,n\xe4me\n+4915112345678,a\n", "the header is not UTF-8"),
        ("to,name\n".encode("utf-16"), "the header is not UTF-8"),
        (b'to,"name\n', "the header line is not CSV: unexpected end of data"),
    ],
)
def test_a_file_with_an_unusable_start(
    refused: Refused, commands: Commands, content: bytes, line: str
) -> None:
    commands.write("bad.csv", content)
    error = refused("send", "bad.csv", *SEND, *HI)
    assert error.startswith("bad.csv")
    assert error.endswith(line)


def test_a_file_that_cannot_be_read(refused: Refused, tmp_path: Path) -> None:
    missing = refused("send", "no.csv", *SEND, *HI, process=True)
    assert missing == "no.csv: No such file or directory"
    assert refused("send", tmp_path, *SEND, *HI) == f"{tmp_path}: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(refused: Refused, commands: Commands) -> None:
    commands.write("secret.csv", GOOD).chmod(0)
    assert refused("send", "secret.csv", *SEND, *HI) == "secret.csv: Permission denied"


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs /proc")
def test_a_file_that_fails_while_it_is_read(refused: Refused) -> None:
    error = refused("send", "/proc/self/mem", *SEND, *HI, code=1, process=True)
    assert error == "/proc/self/mem cannot be read: Input/output error"


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--text", "Hi {name"], 'invalid_template: text: "{" at character 4'),
        (["--text", "Hi {city}"], "the text needs city, the columns are name"),
        (["--text", "x", "--template", "y"], "exactly one of text and template"),
        ([], "exactly one of text and template"),
        (["--template", "y"], "kind webhook carries text, not templates"),
        ([*HI, "--channel", "fax"], "'fax' is not one of 'sms', 'mms'"),
        ([*HI, "--class", "fast"], "'fast' is not one of 'urgent', 'normal', 'bulk'"),
        ([*HI, "--from", ""], "invalid_sender: from is empty"),
        ([*HI, "--ttl", "2 hours"], '--ttl must be a duration up to 3650d such as "500ms"'),
        ([*HI, "--ttl", "0s"], "--ttl must be above 0"),
        ([*HI, "--at", "2026-11-27T09:00:00"], "--at must be an RFC 3339 time with an offset"),
        ([*HI, "--at", "tomorrow"], "--at must be an RFC 3339 time with an offset"),
        ([*HI, "--resume", "last"], "--resume 'last' is not a batch id"),
        ([*HI, "--tenant", "a:b"], "tenant 'a:b' must be a name of letters, digits"),
        ([*HI, "--tenant", "~"], "tenant '~' must be a name of letters, digits"),
        ([*HI, "--html", "no.html"], "File 'no.html' does not exist"),
        ([*HI, "--header", "X-Tag"], "--header must be NAME:VALUE, got 'X-Tag'"),
        ([*HI, "--html", "latin1.html"], "--html latin1.html is not UTF-8"),
        ([*HI, "--rejects", "no/such/folder"], "--rejects no/such/folder: No such file"),
        ([*HI, "--rejects", "good.csv"], "--rejects good.csv is the file to send"),
        ([*HI, "--nope"], "No such option '--nope'"),
    ],
)
def test_a_wrong_option_of_send(
    refused: Refused, commands: Commands, args: list[str], line: str
) -> None:
    commands.write("latin1.html", "<p>Grüße</p>".encode("latin-1"))
    assert line in refused("send", "good.csv", *SEND, *args)
    assert (commands.directory / "good.csv").read_text() == GOOD


def test_a_sender_that_is_not_configured(refused: Refused, commands: Commands) -> None:
    commands.write("dispatcher.toml", NOWHERE + HOOK + '[senders.shop]\nhook = "SHOP"\n')
    error = refused("send", "good.csv", *SEND, *HI, "--from", "shoq")
    assert error == "invalid_sender: from 'shoq' is no configured sender (known: shop)"


def test_a_tenant_that_is_not_configured(refused: Refused, commands: Commands) -> None:
    commands.write("dispatcher.toml", NOWHERE + HOOK + "[tenants.acme]\n")
    error = refused("send", "good.csv", *SEND, *HI, "--tenant", "amce")
    assert error == "--tenant 'amce' is not configured (known: acme)"


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8080", "http://", "http://[x", "http://x:y"])
def test_an_address_of_an_api_that_is_none(refused: Refused, url: str) -> None:
    error = refused("send", "good.csv", *SEND, *HI, "--api", url)
    assert error == f"--api must be a URL such as http://127.0.0.1:8080, got {url!r}"


def test_an_api_that_does_not_answer(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(commands.directory)
    monkeypatch.setattr(send_api, "LATE_SECONDS", 0.0)
    monkeypatch.setattr(send_api, "Client", partial(Client, patience=0.3))
    assert main(["send", "good.csv", *SEND, *HI, "--api", "http://u:secret@127.0.0.1:1"]) == 1
    waits, gives_up = capsys.readouterr().err.splitlines()
    assert waits == "waiting: http://u:***@127.0.0.1:1 does not answer yet"
    assert gives_up.startswith("dispatcher: http://u:***@127.0.0.1:1 does not answer: ")


@pytest.mark.parametrize(
    ("name", "hint"), [("statsu", "did you mean status?"), ("x", "`dispatcher --help` lists all")]
)
def test_a_command_that_is_none(refused: Refused, name: str, hint: str) -> None:
    assert refused(name) == f"there is no command {name}; {hint}"


def test_a_tenant_to_explain_that_is_not_configured(refused: Refused, commands: Commands) -> None:
    commands.write("dispatcher.toml", NOWHERE + HOOK + "[tenants.acme]\n")
    error = refused("explain", "+4915112345678", "--tenant", "amce")
    assert error == "--tenant 'amce' is not configured (known: acme)"


@pytest.mark.parametrize("args", [("list",), ("resolve", "--outcome", "sent"), ("drop",)])
def test_a_time_that_is_none(refused: Refused, args: tuple[str, ...]) -> None:
    error = refused("dead", *args, "--since", "1x")
    assert error == (
        '--since must be an RFC 3339 time with an offset such as "2026-11-27T09:00:00+01:00" or '
        '"…Z", or how long ago, such as "2h", got \'1x\''
    )


@pytest.mark.parametrize("name", ["nonsense", "nonsense-1", f"{BATCH}-x", f"{BATCH}-"])
def test_a_name_that_is_no_id(refused: Refused, name: str) -> None:
    error = refused("status", name)
    assert error == f"{name!r} is neither a batch nor a message id"
