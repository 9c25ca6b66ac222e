"""Rates, quotas, ramps and selectors of every table that has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.config import Config
from dispatcher.display import to_toml
from dispatcher.errors import ConfigError
from dispatcher.units import Rates

Loaded = Callable[..., Config]
TWILIO = """[providers.twilio]\nkind = "twilio"\n"""
RATED = """rate = ["10/s", "2000/day"]
burst = 4
ramp = ["1/s", "300/min"]
timezone = "Europe/Berlin"
"""
TABLES = {
    "providers": TWILIO,
    "carriers": "[carriers.de]\n",
    "tenants": "[tenants.acme]\n",
    "limits": """[[limits]]\nname = "n"\n""",
}


@pytest.mark.parametrize("section", TABLES)
def test_every_table_with_a_rate_has_all_that_belongs_to_it(loaded: Loaded, section: str) -> None:
    config = loaded(TABLES[section] + RATED)
    tables = getattr(config, section)
    (table,) = tables.values() if isinstance(tables, dict) else tables
    assert table.rate == Rates.parse(["10/s", "2000/day"])
    assert table.ramp == Rates.parse(["1/s", "300/min"])
    assert (table.burst, table.timezone) == (4, "Europe/Berlin")
    assert loaded(to_toml(config)) == config


def test_without_them_nothing_is_limited(loaded: Loaded) -> None:
    tenant = loaded("[tenants.acme]\n").tenants["acme"]
    assert (tenant.rate, tenant.ramp, tenant.timezone) == (Rates(), Rates(), "UTC")
    assert (tenant.burst, tenant.classes, tenant.max_queued) == (1, (), None)


def test_limits_select_tenants_and_count_segments(loaded: Loaded) -> None:
    config = loaded(
        "[tenants.acme]\nmax_queued = 5\n"
        "[[limits]]\nname = 'a'\nrate = '1/s'\ntenant = 'acme'\nunit = 'segment'\n"
        "[[limits]]\nname = 'b'\nrate = '10/min'\nchannel = 'whatsapp'\neach = 'recipient'\n"
        "[[limits]]\nname = 'c'\nrate = '1/s'\ntenant = 'default'\neach = 'sender'\n"
    )
    assert config.tenants["acme"].max_queued == 5
    assert [limit.tenant for limit in config.limits] == ["acme", None, "default"]
    assert [limit.each for limit in config.limits] == [None, "recipient", "sender"]
    assert [limit.unit for limit in config.limits] == ["segment", "message", "message"]


def test_without_tenants_a_limit_may_be_for_any(loaded: Loaded) -> None:
    config = loaded("[[limits]]\nname = 'a'\nrate = '1/s'\ntenant = 'acme'\n")
    assert config.limits[0].tenant == "acme"


WRONG = {
    "limit of an unknown tenant": (
        "[tenants.a]\n[[limits]]\nname = 'n'\nrate = '1/s'\ntenant = 'x'",
        'limits.n.tenant names an unknown tenant "x"; known: a',
    ),
    "no time zone": (
        TWILIO + "rate = '9/day'\ntimezone = 'Mars/Olympus'",
        "providers.twilio.timezone must be a name of the IANA time zone database such as "
        '"Europe/Berlin", got "Mars/Olympus"',
    ),
    "time zone outside the database": (
        "[tenants.a]\ntimezone = '/etc/passwd'",
        "tenants.a.timezone must be a name of the IANA time zone database such as "
        '"Europe/Berlin", got "/etc/passwd"',
    ),
    "directory of time zones": (
        "[carriers.a]\ntimezone = 'Europe'",
        "carriers.a.timezone must be a name of the IANA time zone database such as "
        '"Europe/Berlin", got "Europe"',
    ),
    "quota in a ramp": (
        "[carriers.a]\nrate = '1/s'\nramp = ['1/min', '2000/day']",
        'carriers.a.ramp must hold rates per s, min or h, got "2000/day"',
    ),
    "ramp to no rate": (
        "[tenants.a]\nrate = '9/day'\nramp = '1/s'",
        "tenants.a.ramp needs a rate per s, min or h, which holds after it",
    ),
    "segments of another channel": (
        "[[limits]]\nname = 'n'\nrate = '1/s'\nunit = 'segment'\nchannel = 'email'",
        'limits.n.unit "segment" is for sms and mms, got channel "email"',
    ),
    "segments for each recipient": (
        "[[limits]]\nname = 'n'\nrate = '1/s'\neach = 'recipient'\nunit = 'segment'",
        'limits.n.unit must be "message" with each "recipient", got "segment"',
    ),
    "quota for each recipient": (
        "[[limits]]\nname = 'n'\nrate = ['1/s', '9/month']\neach = 'recipient'",
        'limits.n.rate must be per s, min or h with each "recipient", got "9/month"',
    ),
    "ramp for each recipient": (
        "[[limits]]\nname = 'n'\nrate = '5/s'\nramp = '1/s'\neach = 'recipient'",
        'limits.n.ramp is not for each "recipient"',
    ),
    "no place in the queue": (
        "[tenants.a]\nmax_queued = 0",
        "tenants.a.max_queued must be an integer of at least 1, got 0",
    ),
}


@pytest.mark.parametrize("label", WRONG)
def test_a_mistake_is_one_exact_line(loaded: Loaded, tmp_path: Path, label: str) -> None:
    toml, line = WRONG[label]
    with pytest.raises(ConfigError) as error:
        loaded(toml)
    assert str(error.value) == f"{tmp_path}/dispatcher.toml: {line}"
