"""What each cell has of a limit, and which configurations cannot be split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.config import load
from dispatcher.display import to_builtins, to_toml
from dispatcher.errors import ConfigError
from dispatcher.limits import Limit
from dispatcher.policy.routing import Limits
from dispatcher.settings import Config

NOW_US = 1_000_000
PROVIDERS = """
[providers.a]
kind = "webhook"
url = "http://127.0.0.1:9/"
rate = "10/s"
[providers.b]
kind = "webhook"
url = "http://127.0.0.1:9/"
cell = "eu"
[providers.c]
kind = "webhook"
url = "http://127.0.0.1:9/"
cell = "us"
"""
Loaded = Callable[[str], Config]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    def read(toml: str) -> Config:
        path = tmp_path / "dispatcher.toml"
        path.write_text(PROVIDERS + toml)
        return load(path, {})

    return read


def test_the_rest_is_shared_equally(loaded: Loaded) -> None:
    found = Limits(loaded("[carriers.x]\nrate = '10/s'\nshares = { us = 0.5 }\n"), {})
    assert found.shares("carrier:x") == {"main": 0.25, "eu": 0.25, "us": 0.5}
    assert found.define("carrier:x", NOW_US) == Limit("carrier:x", 100_000.0)
    assert found.define("carrier:x", NOW_US, "eu") == Limit("carrier:x", 400_000.0)
    assert found.define("carrier:x", NOW_US, "elsewhere") is None


def test_shares_may_leave_some_of_it_unused(loaded: Loaded) -> None:
    table = "[[limits]]\nname = 'n'\nrate = '10/s'\nshares = { main = 0.1, eu = 0.2, us = 0.2 }\n"
    assert Limits(loaded(table), {}).shares("n") == {"main": 0.1, "eu": 0.2, "us": 0.2}


def test_quotas_ramps_and_bursts_are_split(loaded: Loaded) -> None:
    toml = "[tenants.t]\nrate = ['20/s', '10/day']\nburst = 3\nramp = '2/s'\n"
    (main, eu, us) = (
        Limits(loaded(toml + "shares = { eu = 0.7, us = 0.2 }"), {}).define(
            "tenant:t", NOW_US, cell
        )
        for cell in ("main", "eu", "us")
    )
    assert main and eu and us
    assert [limit.quotas[0].count for limit in (main, eu, us)] == [1, 7, 2]
    assert [limit.burst for limit in (main, eu, us)] == [1, 2, 1]
    assert round(us.interval_us) == 250_000
    assert round(us.ramp[0]) == 2_500_000


def test_what_is_about_one_provider_is_whole_in_its_cell(loaded: Loaded) -> None:
    toml = (
        "[[limits]]\nname = 'n'\nrate = '1/s'\nprovider = 'b'\neach = 'sender'\n"
        "[[limits]]\nname = 'm'\nrate = '1/s'\neach = 'provider'\n"
    )
    found = Limits(loaded(toml), {})
    assert found.shares("n/SHOP") == found.shares("m/b") == {"eu": 1.0}
    assert found.shares("provider:a") == {"main": 1.0}
    assert found.define("provider:a", NOW_US, "eu") is None
    assert [limit.name for limit in found.definitions(NOW_US, "eu")] == ["provider:b"]


def test_a_recipient_has_all_of_its_limit(loaded: Loaded) -> None:
    toml = "[[limits]]\nname = 'pairs'\nrate = '6/min'\neach = 'recipient'\n"
    (limit,) = Limits(loaded(toml), {}).recipient("b/sms/us")
    assert limit.interval_us == 10_000_000


def test_entries_are_as_large_as_the_share_allows(loaded: Loaded) -> None:
    found = Limits(loaded("[carriers.x]\nrate = '10/s'\nshares = { us = 0.5 }\n"), {})
    assert found.spacing("b/sms/x") == (400_000.0, 0.0)
    assert found.spacing("c/sms/x") == (200_000.0, 0.0)


def test_where_providers_are_is_no_key_of_the_store(loaded: Loaded) -> None:
    config = loaded("")
    assert config.store.places == {"a": "main", "b": "eu", "c": "us"}
    assert "places" not in to_builtins(config)["store"]
    assert "places" not in to_toml(config)
    with pytest.raises(ConfigError, match=r"store\.places is not a known key"):
        loaded("[store]\nplaces = {}\n")


WRONG = {
    "unknown cell": (
        "[carriers.x]\nrate = '1/s'\nshares = { eu = 0.1, nowhere = 0.2 }",
        'carriers.x.shares names the cell "nowhere"; its providers are in main, eu, us',
    ),
    "cell of another provider": (
        "[[limits]]\nname = 'n'\nrate = '1/s'\nprovider = 'b'\nshares = { us = 0.5 }",
        'limits.n.shares names the cell "us"; its providers are in eu',
    ),
    "more than all": (
        "[tenants.t]\nrate = '1/s'\nshares = { main = 0.5, eu = 0.5, us = 0.5 }",
        "tenants.t.shares must add up to at most 1, got 1.5",
    ),
    "nothing left": (
        "[tenants.t]\nrate = '1/s'\nshares = { main = 0.5, us = 0.5 }",
        "tenants.t.shares leaves nothing for the cell eu",
    ),
    "no share": (
        "[carriers.x]\nshares = { eu = 0 }",
        "carriers.x.shares must be a table of cells, each with a number above 0 and at most 1, "
        "got {eu = 0}",
    ),
    "a quota too small": (
        "[carriers.x]\nrate = '2/day'",
        "carriers.x.rate: 2/day leaves less than 1 for the cell main",
    ),
    "of each recipient": (
        "[[limits]]\nname = 'n'\nrate = '1/s'\neach = 'recipient'\nshares = { eu = 0.5 }",
        'limits.n.shares is not for each "recipient": each is kept in one cell',
    ),
}


@pytest.mark.parametrize("label", WRONG)
def test_what_cannot_be_split_is_one_line(loaded: Loaded, label: str) -> None:
    toml, line = WRONG[label]
    with pytest.raises(ConfigError) as error:
        loaded(toml)
    assert str(error.value).partition(": ")[2] == line
