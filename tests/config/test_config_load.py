from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from dispatcher.config import Config, find, load
from dispatcher.errors import ConfigError
from dispatcher.messages import CHANNELS, CLASSES
from dispatcher.settings import Channel, Class, RouteProvider
from dispatcher.toml import Secret
from dispatcher.units import Rates

Loaded = Callable[..., Config]

TWILIO = '[providers.twilio-eu]\nkind = "twilio"\n'
FULL = """
[store]
url = "rediss://cache:6380/1"
prefix = "app"
password = "env:REDIS_PASSWORD"
[worker]
processes = 4
lease = "20s"
[tenants.acme]
token = ["env:ACME_NEW", "env:ACME_OLD"]
weight = 2
classes = ["normal", "bulk"]
[operators.oncall]
token = "env:ONCALL"
[providers.twilio-eu]
kind = "twilio"
account_sid = "AC1"
auth_token = "env:TWILIO"
rate = ["100/s", "5000/min"]
burst = 10
on_unknown = "hold"
[providers.vonage]
kind = "webhook"
url = "https://example.org/send"
[senders.shop]
twilio-eu = ["+4915550006", "+4915550007"]
vonage = "SHOP"
[carriers.de-telekom]
prefixes = ["+49151", "+49160"]
rate = "75/s"
[[limits]]
name = "numbers"
provider = "twilio-eu"
each = "carrier"
rate = "1/s"
[[routes]]
channel = "sms"
to = "+49*"
providers = ["twilio-eu", "vonage"]
[[routes]]
providers = [{name = "twilio-eu", weight = 3}, {name = "vonage", weight = 1}]
[retry]
max = "5m"
[safety]
allow = ["+1555*"]
"""
SECRETS = {
    "REDIS_PASSWORD": "one",
    "ACME_NEW": "two",
    "ACME_OLD": "three",
    "ONCALL": "four",
    "TWILIO": "five",
}


def test_without_anything_the_defaults_hold() -> None:
    config = load(None, {})
    assert config == Config()
    assert config.store.url == "embedded"
    assert config.store.max_queued == 20_000_000
    assert (config.worker.processes, config.worker.lease, config.worker.port) == (1, 15, 9100)
    assert (config.api.host, config.api.port) == ("127.0.0.1", 8080)
    assert (config.retry.max_attempts, config.retry.base, config.retry.max) == (5, 2, 600)
    assert (config.retry.max_age, config.retention.status) == (86_400, 259_200)
    assert config.retention.dead == 1_209_600


def test_every_table_is_read(loaded: Loaded) -> None:
    config = loaded(FULL, SECRETS)
    assert config.store.password == Secret("one")
    assert config.worker.lease == 20
    assert config.tenants["acme"].token == (Secret("two"), Secret("three"))
    assert config.operators["oncall"].token == (Secret("four"),)
    twilio = config.providers["twilio-eu"]
    assert twilio.rate == Rates.parse(["100/s", "5000/min"])
    assert twilio.settings == {"account_sid": "AC1", "auth_token": Secret("five")}
    assert (twilio.burst, twilio.concurrency, twilio.timeout) == (10, 256, 30)
    assert (twilio.cell, twilio.on_unknown) == ("main", "hold")
    assert config.senders["shop"] == {
        "twilio-eu": ("+4915550006", "+4915550007"),
        "vonage": ("SHOP",),
    }
    assert config.carriers["de-telekom"].prefixes == ("+49151", "+49160")
    assert (config.limits[0].name, config.limits[0].each) == ("numbers", "carrier")
    assert config.routes[0].providers == (
        RouteProvider(name="twilio-eu"),
        RouteProvider(name="vonage"),
    )
    assert [choice.weight for choice in config.routes[1].providers] == [3, 1]
    assert (config.retry.base, config.retry.max) == (2, 300)
    assert config.safety.allow == ("+1555*",)


def test_a_configuration_reaches_another_process_whole(loaded: Loaded) -> None:
    config = loaded(FULL, SECRETS)
    assert pickle.loads(pickle.dumps(config)) == config


def test_channels_and_classes_are_those_of_messages() -> None:
    assert get_args(Channel) == CHANNELS
    assert get_args(Class) == CLASSES


def test_flags_stand_above_the_environment_and_that_above_the_file(loaded: Loaded) -> None:
    toml = '[worker]\nprocesses = 2\nport = 1\n[log]\nlevel = "error"'
    environ = {"DISPATCHER__WORKER__PROCESSES": "3", "DISPATCHER__WORKER__PORT": "2"}
    config = loaded(toml, environ, worker__processes=4, worker__lease=None)
    assert (config.worker.processes, config.worker.port, config.log.level) == (4, 2, "error")
    assert config.worker.lease == 15


@pytest.mark.parametrize("name", ["TWILIO_EU", "twilio_eu", "Twilio-EU"])
def test_a_variable_finds_a_name_with_dashes(loaded: Loaded, name: str) -> None:
    config = loaded(TWILIO, {f"DISPATCHER__PROVIDERS__{name}__RATE": "5/s"})
    assert list(config.providers) == ["twilio-eu"]
    assert config.providers["twilio-eu"].rate == Rates.parse("5/s")


def test_a_variable_may_hold_toml(loaded: Loaded) -> None:
    environ = {
        "DISPATCHER__PROVIDERS__TWILIO_EU__RATE": '["10/s", "75/min"]',
        "DISPATCHER__SAFETY__ALLOW": "+49151",
        "DISPATCHER__CARRIERS__O2__PREFIXES": "['+49176', '+49179']",
        "DISPATCHER__LOG": '{level = "debug"}',
        "DISPATCHER__STORE__DATA_DIR": '"/var/lib/x"',
        "DISPATCHER__ROUTES": '[{providers = ["twilio-eu"]}]',
    }
    config = loaded(TWILIO, environ)
    assert config.providers["twilio-eu"].rate.texts == ["10/s", "75/min"]
    assert config.safety.allow == ("+49151",)
    assert config.carriers["o2"].prefixes == ("+49176", "+49179")
    assert config.log.level == "debug"
    assert config.store.data_dir == "/var/lib/x"
    assert config.routes[0].providers[0].name == "twilio-eu"


@pytest.mark.parametrize("text", ["12345", "1e5", "true", "1979-05-27", "0123", "[x"])
def test_a_text_key_takes_a_variable_as_it_stands(loaded: Loaded, text: str) -> None:
    environ = {"DISPATCHER__TENANTS__A__TOKEN": text, "DISPATCHER__STORE__DATA_DIR": text}
    config = loaded("", environ)
    assert config.store.data_dir == text
    assert config.tenants["a"].token[0].reveal() == text


def test_a_variable_reaches_into_a_list(loaded: Loaded) -> None:
    toml = '[[limits]]\nname = "a"\nrate = "1/s"\n[[limits]]\nname = "b"\nrate = "1/s"'
    config = loaded(toml, {"DISPATCHER__LIMITS__1__RATE": "9/s"})
    assert [limit.rate.texts for limit in config.limits] == [["1/s"], ["9/s"]]


def test_find_takes_the_flag_then_the_variable_then_the_directory(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml", "dispatcher.toml"):
        (tmp_path / name).touch()
    environ = {"DISPATCHER_CONFIG": "b.toml"}
    assert find("a.toml", environ, tmp_path).name == "a.toml"
    assert find(None, environ, tmp_path).name == "b.toml"
    assert find(None, {}, tmp_path) == tmp_path / "dispatcher.toml"


def test_find_names_the_places_it_searched(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        find(None, {}, tmp_path)
    assert str(error.value) == (
        "no configuration: searched --config (not given), $DISPATCHER_CONFIG (not set) "
        f"and {tmp_path}/dispatcher.toml (not there)"
    )
    with pytest.raises(ConfigError, match=r"^--config: there is no file x\.toml$"):
        find("x.toml", {"DISPATCHER_CONFIG": "y.toml"}, tmp_path)
    with pytest.raises(ConfigError, match=r"^\$DISPATCHER_CONFIG: there is no file y\.toml$"):
        find(None, {"DISPATCHER_CONFIG": "y.toml"}, tmp_path)


def test_an_unreadable_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        load(tmp_path, {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"binary\.toml: is not UTF-8 at byte 5$"):
        load(binary, {})
    if os.geteuid():
        binary.chmod(0)
        with pytest.raises(ConfigError, match=r"Permission denied$"):
            load(binary, {})
