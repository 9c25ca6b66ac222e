from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config import Config, Secret, load
from dispatcher.display import to_builtins, to_toml

Loaded = Callable[..., Config]

FILE = """
[store]
url = "redis://app:hunter2@cache:6379/0?password=hunter3"
[tenants.acme]
token = "env:ONE"
[operators.oncall]
token = ["env:ONE ", "hunter4"]
[providers."twilio.eu"]
kind = "twilio"
rate = ["100/s", "90/min"]
timeout = "1500ms"
account_sid = "AC1"
auth_token = "env:ONE"
nested = {api_key = "hunter5", "a b" = [1, 1.5, true, 2026-11-27T09:00:00Z]}
[providers.hook]
kind = "webhook"
url = "https://user:hunter6@example.org/"
[senders.shop]
hook = "Käse \\" \\\\ \\u007f \\u0001"
[carriers.de]
prefixes = ["+49151"]
[[limits]]
name = "n"
provider = "hook"
rate = "1/s"
[[routes]]
to = "+49*"
providers = ["hook", "twilio.eu"]
[[routes]]
providers = [{name = "hook", weight = 2}]
"""
ENVIRON = {"ONE": "hunter1", "ONE ": "hunter7"}

PLAIN = st.text().filter(lambda text: not text.startswith(("env:", "file:", "***")))
"""What is not a reference to a secret."""


def reload(text: str) -> Config:
    with TemporaryDirectory() as directory:
        path = Path(directory, "dispatcher.toml")
        path.write_text(text)
        return load(path, {})


def with_secrets(shown: str) -> str:
    numbers = count(1)
    return re.sub('"[*]{3}"', lambda _: f'"secret {next(numbers)}"', shown)


def test_what_is_shown_loads_as_the_same_apart_from_secrets(loaded: Loaded) -> None:
    config = loaded(FILE, ENVIRON)
    shown = to_toml(config)
    again = reload(with_secrets(shown))
    assert to_toml(again) == shown
    assert again.senders == config.senders
    assert again.limits == config.limits
    assert again.routes == config.routes
    assert again.carriers == config.carriers
    assert again.worker == config.worker
    assert again.retry == config.retry
    eu, was = again.providers["twilio.eu"], config.providers["twilio.eu"]
    assert (eu.rate, eu.timeout) == (was.rate, 1.5)
    assert eu.settings["nested"]["a b"] == was.settings["nested"]["a b"]
    assert again.tenants["acme"].token == (Secret("secret 1"),)


def test_no_secret_is_shown_wherever_it_was_written(loaded: Loaded) -> None:
    config = loaded(FILE, ENVIRON)
    for text in (to_toml(config), json.dumps(to_builtins(config), default=str), repr(config)):
        found = [f"hunter{n}" for n in (1, 4, 5, 7) if f"hunter{n}" in text]
        assert found == []
    for text in (to_toml(config), json.dumps(to_builtins(config), default=str)):
        assert "hunter" not in text
        assert "redis://app:***@cache:6379/0?password=***" in text


def test_the_defaults_are_shown() -> None:
    shown = tomllib.loads(to_toml(Config()))
    assert shown["worker"] == {"processes": 1, "lease": "15s", "port": 9100}
    assert shown["retry"] == {"max_attempts": 5, "base": "2s", "max": "10m", "max_age": "1d"}
    assert shown["safety"] == {"allow": []}
    assert reload(to_toml(Config())) == Config()


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{0!r}".format, lambda s: f"{[s]}"])
def test_a_secret_prints_as_stars(show: Callable[[Secret], str]) -> None:
    assert show(Secret("hunter2")).strip("[]") == "***"


@given(
    st.text(min_size=1).map(lambda text: f"hunter2{text}"), st.sampled_from(["token", "api_key"])
)
def test_no_secret_text_is_ever_printed(secret: str, key: str) -> None:
    flags = {
        "providers.p.kind": "k",
        f"providers.p.{key}": secret,
        "providers.p.other": "env:S",
        "tenants.t.token": [secret, "env:S"],
        "store.password": "env:S",
    }
    config = load(None, {"S": secret}, flags)
    assert config.providers["p"].settings[key].reveal() == secret
    assert config.providers["p"].settings["other"].reveal() == secret
    for text in (to_toml(config), json.dumps(to_builtins(config)), repr(config)):
        assert "hunter2" not in text


@given(st.dictionaries(st.text(max_size=5), PLAIN | st.integers() | st.floats(allow_nan=False)))
def test_any_settings_of_a_provider_survive_printing(
    settings: dict[str, str | int | float],
) -> None:
    table = {f"x_{key}": value for key, value in settings.items()}
    config = load(None, {}, {"providers": {"p": {"kind": "k", "nested": table}}})
    shown = to_builtins(config)["providers"]["p"]["nested"]
    assert tomllib.loads(to_toml(config))["providers"]["p"]["nested"] == shown


def test_a_secret_file_is_read_without_its_last_newline(loaded: Loaded, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("hunter2\n")
    config = loaded(f'[store]\npassword = "file:{secret}"')
    assert config.store.password == Secret("hunter2")


def test_a_store_url_may_be_a_secret(loaded: Loaded) -> None:
    config = loaded('[store]\nurl = "env:URL"', {"URL": "redis://:hunter2@h"})
    assert config.store.url == "redis://:hunter2@h"
    assert "hunter2" not in to_toml(config)
