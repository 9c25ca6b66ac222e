"""Each case: what is wrong, the file, the one line that a person reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.config import PROVIDER_KEYS, Config, Secret, convert, load
from dispatcher.errors import ConfigError

Loaded = Callable[..., Config]

DURATION = 'a duration up to 3650d such as "500ms", "15s", "1h30m" or "14d"'
RATE = (
    'a rate above 0 such as "100/s", "75/min", "3600/h", "2000/day" or "50000/month", '
    "or a list of them"
)
NAME = 'a name of letters, digits, ".", "_" and "-" that starts with a letter or digit'
TWILIO = '[providers.twilio]\nkind = "twilio"\n'

WRONG = {
    "syntax": ("[store\n", "is not TOML: Expected ']' at the end of a table declaration"),
    "syntax names the line": ("a = 1\nb = = 2", "is not TOML: Invalid value (at line 2, column 5)"),
    "unknown table": ("[sotre]", 'sotre is not a known key; did you mean "store"?'),
    "unknown table, nothing near": (
        "[x]",
        "x is not a known key; allowed: store, worker, log, api, tenants, operators, providers, "
        "senders, carriers, limits, routes, retry, retention, safety",
    ),
    "unknown key": (
        "[worker]\nproceses = 2",
        'worker.proceses is not a known key; did you mean "processes"?',
    ),
    "unknown key, nothing near": (
        "[log]\nzzz = 2",
        "log.zzz is not a known key; allowed: level, format",
    ),
    "the first problem of the file": (
        '[log]\nlevel = "loud"\n[worker]\nprocesses = 0',
        'log.level must be one of "debug", "error", "info", "warning", got "loud"',
    ),
    "wrong type": (
        '[worker]\nprocesses = "two"',
        'worker.processes must be an integer of at least 1, got "two"',
    ),
    "true is no integer": (
        "[worker]\nprocesses = true",
        "worker.processes must be an integer of at least 1, got true",
    ),
    "out of range": (
        "[api]\nport = 65536",
        "api.port must be an integer from 0 to 65535, got 65536",
    ),
    "a value where a table belongs": ("store = 5", "store must be a table, got 5"),
    "a value where a named table belongs": (
        "[providers]\nx = 'y'",
        'providers.x must be a table, got "y"',
    ),
    "a table where a list belongs": (
        "[limits]\nname = 'x'",
        "limits must be written as [[limits]], once for each of them",
    ),
    "duration without unit": ("[worker]\nlease = 15", f"worker.lease must be {DURATION}, got 15"),
    "bad duration": (
        '[retention]\nstatus = "3 days"',
        f'retention.status must be {DURATION}, got "3 days"',
    ),
    "lease too short": (
        '[worker]\nlease = "999ms"',
        'worker.lease must be at least "1s", got "999ms"',
    ),
    "no time-out at all": (
        TWILIO + 'timeout = "0s"',
        'providers.twilio.timeout must be at least "1ms", got "0s"',
    ),
    "retry maximum below the base": (
        '[retry]\nbase = "1m"\nmax = "1s"',
        'retry.max must be at least "1m", got "1s"',
    ),
    "bad rate": (TWILIO + 'rate = "fast"', f'providers.twilio.rate must be {RATE}, got "fast"'),
    "rate zero": (TWILIO + 'rate = "0/s"', f'providers.twilio.rate must be {RATE}, got "0/s"'),
    "negative rate": (
        TWILIO + 'rate = "-1/s"',
        f'providers.twilio.rate must be {RATE}, got "-1/s"',
    ),
    "one bad rate of two": (
        TWILIO + 'rate = ["1/s", 2]',
        f'providers.twilio.rate must be {RATE}, got ["1/s", 2]',
    ),
    "concurrency zero": (
        TWILIO + "concurrency = 0",
        "providers.twilio.concurrency must be an integer of at least 1, got 0",
    ),
    "provider without kind": (
        "[providers.a]",
        "providers.a.kind is missing: it must be a text",
    ),
    "on_unknown": (
        TWILIO + 'on_unknown = "drop"',
        'providers.twilio.on_unknown must be one of "hold", "resend", got "drop"',
    ),
    "name that cannot be part of a key": (
        '[providers."a:b"]\nkind = "x"',
        f'providers."a:b" must have {NAME}',
    ),
    "name that ends in a newline": ('[tenants."a\\n"]', f'tenants."a\\n" must have {NAME}'),
    "prefix with a brace": ('[store]\nprefix = "{d}"', f'store.prefix must be {NAME}, got "{{d}}"'),
    "cell": (TWILIO + 'cell = "a/b"', f'providers.twilio.cell must be {NAME}, got "a/b"'),
    "appendfsync of another server": (
        '[store]\nurl = "redis://h"\nappendfsync = "always"',
        'store.appendfsync is for url = "embedded" only: any other server has its own setting',
    ),
    "replicas of the embedded store": (
        '[store]\nconfirm = "replica"',
        'store.confirm must be "memory" or "disk" with url = "embedded"',
    ),
    "store url": (
        '[store]\nurl = "memcached://:pw@host"',
        'store.url must be "embedded" or one of redis://…, rediss://…, redis+sentinel://…, '
        "rediss+sentinel://…, redis+cluster://…, rediss+cluster://…",
    ),
    "secret not set": (
        '[tenants.acme]\ntoken = "env:ACME"',
        "tenants.acme.token needs the environment variable ACME, which is not set",
    ),
    "secret not set, in a list": (
        '[tenants.acme]\ntoken = ["a", "env:ACME"]',
        "tenants.acme.token[1] needs the environment variable ACME, which is not set",
    ),
    "secret of a provider not set": (
        TWILIO + 'auth_token = "env:TW"',
        "providers.twilio.auth_token needs the environment variable TW, which is not set",
    ),
    "secret empty": (
        '[store]\npassword = "env:EMPTY"',
        "store.password needs the environment variable EMPTY, which is empty",
    ),
    "secret file absent": (
        '[store]\npassword = "file:/no/such/file"',
        "store.password needs the file /no/such/file: No such file or directory",
    ),
    "secret file relative": (
        '[store]\npassword = "file:secret"',
        'store.password must be "file:" and an absolute path, got "file:secret"',
    ),
    "secret where none belongs": (
        '[api]\nhost = "env:HOST"',
        'api.host cannot be "env:" or "file:": only secrets can',
    ),
    "secret of the wrong type is not shown": (
        "[store]\npassword = {value = 'hunter2'}",
        'store.password must be "env:NAME", "file:/path" or a text other than "***"',
    ),
    "secret copied from what was shown": (
        "[tenants.acme]\ntoken = '***'",
        'tenants.acme.token must be a list, each "env:NAME", "file:/path" or a text other than '
        '"***"',
    ),
    "two tenants, one token": (
        "[tenants.a]\ntoken = 'x'\n[tenants.b]\ntoken = 'x'",
        "tenants.b.token is the token of tenants.a too",
    ),
    "open to the network without tenants": (
        '[api]\nhost = "0.0.0.0"',
        'api.host "0.0.0.0" lets other machines in, so there must be [tenants]; without them it '
        'must be "127.0.0.1", "::1" or "localhost"',
    ),
    "sender of an unknown provider": (
        TWILIO + "[senders.shop]\ntwillio = 'SHOP'",
        'senders.shop names an unknown provider "twillio"; known: twilio',
    ),
    "sender without literals": (
        TWILIO + "[senders.shop]\ntwilio = []",
        "senders.shop.twilio must list at least one sender",
    ),
    "sender that is a number": (
        TWILIO + "[senders.shop]\ntwilio = 49",
        "senders.shop.twilio must be a list, each a text, got 49",
    ),
    "route to an unknown provider": (
        TWILIO + "[[routes]]\nproviders = ['twilio']\n[[routes]]\nproviders = ['x']",
        'routes[1].providers names an unknown provider "x"; known: twilio',
    ),
    "route without providers": (
        "[[routes]]\nchannel = 'sms'",
        "routes[0].providers is missing: it must be a list, each the name of a provider or "
        '{name = "…", weight = 1}',
    ),
    "route to nobody": (
        "[[routes]]\nproviders = []",
        "routes[0].providers must name at least one provider",
    ),
    "route with one weight": (
        TWILIO + "[[routes]]\nproviders = ['twilio', {name = 'twilio', weight = 1}]",
        "routes[0].providers must have a weight each, or none of them",
    ),
    "route with a misspelt weight": (
        TWILIO + "[[routes]]\nproviders = [{name = 'twilio', wieght = 1}]",
        "routes[0].providers must be a list, each the name of a provider or "
        '{name = "…", weight = 1}, got [{name = "twilio", wieght = 1}]',
    ),
    "route of an unknown channel": (
        "[[routes]]\nchannel = 'fax'\nproviders = ['x']",
        'routes[0].channel must be one of "email", "messenger", "mms", "push", "rcs", "sms", '
        '"voice", "whatsapp", got "fax"',
    ),
    "carrier prefix without plus": (
        "[carriers.de]\nprefixes = ['0049']",
        'carriers.de.prefixes must be a list, each "+" and 1 to 15 digits, got ["0049"]',
    ),
    "prefix of two carriers": (
        "[carriers.a]\nprefixes = ['+49151']\n[carriers.b]\nprefixes = ['+49152', '+49151']",
        "carriers.b.prefixes: +49151 is in carriers.a too",
    ),
    "limit without name": (
        "[[limits]]\nrate = '1/s'",
        f"limits[0].name is missing: it must be {NAME}",
    ),
    "limit without rate": (
        "[[limits]]\nname = 'n'",
        f"limits.n.rate is missing: it must be {RATE}",
    ),
    "limit for each of something else": (
        "[[limits]]\nname = 'n'\nrate = '1/s'\neach = 'batch'",
        'limits.n.each must be one of "carrier", "channel", "provider", "recipient", "sender", '
        '"tenant", got "batch"',
    ),
    "limit of an unknown provider": (
        TWILIO + "[[limits]]\nname = 'n'\nrate = '1/s'\nprovider = 'x'",
        'limits.n.provider names an unknown provider "x"; known: twilio',
    ),
    "two limits of one name": (
        "[[limits]]\nname = 'n'\nrate = '1/s'\n[[limits]]\nname = 'n'\nrate = '2/s'",
        "limits.n: there is more than one limit of this name",
    ),
    "sentinel without a master": (
        "[store]\nurl = 'redis+sentinel://:pw@a:26379,b'",
        "store.url must end with the name of the master, as in "
        "redis+sentinel://host1:26379,host2:26379/mymaster",
    ),
    "sentinel with options": (
        "[store]\nurl = 'redis+sentinel://a/m?ssl=true'",
        "store.url of redis+sentinel:// has no options after ?, they are keys of [store]",
    ),
    "cluster with a database": (
        "[store]\nurl = 'redis+cluster://a,b/1'",
        'store.url of a cluster ends with its nodes, got "/1" after them',
    ),
    "cluster with an empty node": (
        "[store]\nurl = 'redis+cluster://a,,b'",
        "store.url must name a host, as in host:6379",
    ),
    "store port": (
        "[store]\nurl = 'redis+cluster://:pw@a:99999'",
        'store.url must name ports of 1 to 65535, got "99999" after a',
    ),
    "two servers": (
        "[store]\nurl = 'redis://a,b'",
        "store.url of redis:// names one server, got 2",
    ),
    "store database": (
        "[store]\nurl = 'rediss://a/jobs'",
        'store.url must end with the number of a database, got "jobs"',
    ),
}


@pytest.mark.parametrize("label", WRONG)
def test_every_mistake_is_one_exact_line(loaded: Loaded, tmp_path: Path, label: str) -> None:
    toml, line = WRONG[label]
    with pytest.raises(ConfigError) as error:
        loaded(toml, {"EMPTY": "", "HOST": "h"})
    text = str(error.value)
    if label == "syntax":
        assert text.startswith(f"{tmp_path}/dispatcher.toml: {line}")
    else:
        assert text == f"{tmp_path}/dispatcher.toml: {line}"


VARIABLES = {
    "wrong type": (
        {"DISPATCHER__WORKER__PROCESSES": "two"},
        'worker.processes must be an integer of at least 1, got "two" '
        "(from DISPATCHER__WORKER__PROCESSES)",
    ),
    "unknown key": (
        {"DISPATCHER__WORKER__PROCESS": "2"},
        "worker.process is not a known key (from DISPATCHER__WORKER__PROCESS); "
        'did you mean "processes"?',
    ),
    "unknown table": (
        {"DISPATCHER__WORKERS__PROCESSES": "2"},
        'workers is not a known key (from DISPATCHER__WORKERS__PROCESSES); did you mean "worker"?',
    ),
    "no table": ({"DISPATCHER__": "2"}, "DISPATCHER__ does not name a key of a table"),
    "no such item": (
        {"DISPATCHER__LIMITS__1__RATE": "2/s"},
        "DISPATCHER__LIMITS__1__RATE does not name a key of a table",
    ),
    "through a value": (
        {"DISPATCHER__STORE__URL__HOST": "x"},
        "DISPATCHER__STORE__URL__HOST does not name a key of a table",
    ),
    "two names it may mean": (
        {"DISPATCHER__PROVIDERS__A_B__RATE": "1/s"},
        "DISPATCHER__PROVIDERS__A_B__RATE matches more than one key: a-b, a_b",
    ),
    "empty secret": (
        {"DISPATCHER__STORE__PASSWORD": ""},
        'store.password must be "env:NAME", "file:/path" or a text other than "***" '
        "(from DISPATCHER__STORE__PASSWORD)",
    ),
    "more than one line of TOML": (
        {"DISPATCHER__WORKER__PORT": "1\nprocesses = 9"},
        'worker.port must be an integer from 0 to 65535, got "1\\nprocesses = 9" '
        "(from DISPATCHER__WORKER__PORT)",
    ),
}


@pytest.mark.parametrize("label", VARIABLES)
def test_a_mistake_in_the_environment_names_its_variable(
    loaded: Loaded, tmp_path: Path, label: str
) -> None:
    environ, line = VARIABLES[label]
    toml = "[store]\nurl = 'embedded'\n[providers.a-b]\nkind = 'x'\n[providers.a_b]\nkind = 'x'"
    toml += "\n[[limits]]\nname = 'n'\nrate = '1/s'"
    with pytest.raises(ConfigError) as error:
        loaded(toml, environ)
    assert str(error.value) == f"{tmp_path}/dispatcher.toml: {line}"


def test_without_a_file_the_line_names_none() -> None:
    with pytest.raises(ConfigError, match=r"^worker\.port must be"):
        load(None, {}, {"worker.port": -1})


class Settings(msgspec.Struct):
    account: str
    token: Secret
    batch: int = 1


def test_a_provider_kind_complains_in_the_same_words() -> None:
    given_ = {"account": "AC", "token": "x"}
    assert convert(given_, Settings, "providers.p").token.reveal() == "x"
    cases = {
        f"providers.p.token is missing: it must be {Secret.expects}": {"account": "AC"},
        'providers.p.acount is not a known key; did you mean "account"?': {"acount": "AC"},
        'providers.p.concurency is not a known key; did you mean "concurrency"?': {"concurency": 1},
        'providers.p.batch must be an integer, got "***"': {"batch": Secret("hunter2")},
    }
    for line, data in cases.items():
        with pytest.raises(ConfigError) as error:
            convert(data, Settings, "providers.p", also=PROVIDER_KEYS)
        assert str(error.value) == line


def test_a_plain_field_of_a_kind_may_come_from_a_secret(loaded: Loaded) -> None:
    toml = "[providers.p]\nkind = 'k'\naccount = 'env:SID'\ntoken = 'literal'"
    settings = loaded(toml, {"SID": "AC7"}).providers["p"].settings
    found = convert(settings, Settings, "providers.p")
    assert (found.account, found.token.reveal()) == ("AC7", "literal")


TOML_VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["1/s", "15s", "sms", "embedded", "env:A"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [
        "store",
        "worker",
        "providers",
        "senders",
        "limits",
        "routes",
        "tenants",
        "carriers",
        "url",
        "lease",
        "x",
        "name",
        "rate",
        "each",
        "prefixes",
        "providers",
        "token",
        "kind",
        "password",
    ]
)


# The first draw of a fresh checkout makes a table of all characters, which takes seconds.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, TOML_VALUES | st.dictionaries(KEYS, TOML_VALUES, max_size=3)))
def test_any_file_loads_or_is_one_line(flags: dict[str, object]) -> None:
    try:
        load(None, {"A": "a"}, flags)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
