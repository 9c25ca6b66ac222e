"""`explain`: what a message to an address would meet, plain and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.store.opening import Store
from tests.cli.inside import Inside

TO = "+4915112345678"
LANE = "hook/sms/de-telekom/sender=SHOP"
TOML = """
[providers.hook]
kind = "webhook"
url = "http://127.0.0.1:9/webhook/demo"
[providers.other]
kind = "webhook"
url = "http://127.0.0.1:9/webhook/other"
[senders.shop]
hook = ["SHOP"]
[carriers.de-telekom]
prefixes = ["+49151"]
rate = "75/s"
[[limits]]
name = "numbers"
provider = "hook"
each = "sender"
rate = "1/s"
"""


@pytest.fixture
def explaining(inside: Inside, config_file: Callable[[str], Path]) -> Inside:
    config_file(TOML)
    return inside


async def fill(store: Store) -> None:
    """Messages wait in the lane; its sender has given away the next 100 seconds."""
    now = await store.inspector.now_us()
    limits = "provider:hook carrier:de-telekom numbers/SHOP"
    fields = {"limits": limits, "depth:normal": 40, "depth:bulk": 50_000}
    await store.client.hset(store.keys.name("lane", LANE), mapping=fields)
    await store.client.zadd(store.keys.name("lanes", "hook"), {LANE: now})
    state = {"interval": "1000000.000000", "burst": 1, "tat": now + 100_000_000}
    await store.client.hset(store.keys.name("limit", "numbers/SHOP"), mapping=state)
    await store.client.sadd(store.keys.name("limits"), "numbers/SHOP")


async def test_where_messages_wait(explaining: Inside, store: Store) -> None:
    await fill(store)
    found = (await explaining.call("explain", TO, "--from", "shop", "--json")).found
    assert (found["to"], found["channel"], found["carrier"]) == (TO, "sms", "de-telekom")
    assert found["workers"] == 0
    hook, other = found["choices"]
    refusal = "senders.shop names no sender of other"
    assert other == {"provider": "other", "refusal": refusal}
    assert (hook["lane"], hook["sender"]) == (LANE, "SHOP")
    assert hook["waiting_for"] == "limit numbers/SHOP"
    assert {limit["name"]: (limit["rate"], limit["binds"]) for limit in hook["limits"]} == {
        "provider:hook": (None, False),
        "carrier:de-telekom": (75, False),
        "numbers/SHOP": (1, True),
    }
    assert hook["depth"] == {"urgent": 0, "normal": 40, "bulk": 50_000}
    seconds = hook["seconds"]
    assert seconds["normal"] - seconds["urgent"] == pytest.approx(40)
    assert seconds["bulk"] - seconds["urgent"] == pytest.approx(50_040)


async def test_plain(explaining: Inside, store: Store) -> None:
    await fill(store)
    await store.client.zadd(store.keys.name("workers"), {"w": 1})
    lines = (await explaining.call("explain", TO, "--from", "shop")).out.splitlines()
    assert lines[:4] == [
        f"{TO} by sms",
        "carrier  de-telekom (+49151 in [carriers.de-telekom])",
        "route    hook, other (every provider of sms: there are no [[routes]])",
        "",
    ]
    assert lines[4] == LANE
    assert lines[8].split()[:3] == ["numbers/SHOP", "1/s", "100%"]
    assert lines[8].split()[-2:] == ["binds", "now"]
    assert lines[10:12] == [
        "  held by    limit numbers/SHOP",
        "  in front   urgent 0 · normal 40 · bulk 50,000",
    ]
    assert lines[12].endswith("bulk in about 14 h")
    assert lines[13:] == ["", "other", "  left out: senders.shop names no sender of other"]


async def test_an_idle_store(explaining: Inside) -> None:
    out = (await explaining.call("explain", TO, "--from", "SHOP")).out
    assert out.count("would go   urgent now · normal now · bulk now") == 2
    assert out.endswith("No worker runs now: nothing goes before one starts.\n")
    assert "held by" not in out


def test_an_address_with_an_at_sign_is_email(explaining: Inside) -> None:
    found = explaining.run("explain", "Ann@Gmail.com", "--from", "SHOP", "--json").found
    assert (found["channel"], found["carrier"]) == ("email", "google")
    by_name = ("--from", "SHOP", "--channel", "whatsapp", "--json")
    assert explaining.run("explain", TO, *by_name).found["carrier"] == "meta"


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("12", "--from", "SHOP"), "to: '12' has no leading +; allowed is + and 7 to 15 digits"),
        ((TO,), "hook has limits per sender: say which one with --from"),
    ],
)
def test_what_cannot_be_explained(explaining: Inside, args: tuple[str, ...], line: str) -> None:
    result = explaining.run("explain", *args)
    assert (result.code, result.out, result.err) == (2, "", [f"dispatcher: {line}"])


def test_no_route(explaining: Inside, config_file: Callable[[str], Path]) -> None:
    config_file(TOML + '[[routes]]\nto = "+43*"\nproviders = ["hook"]\n')
    result = explaining.run("explain", TO, "--from", "SHOP")
    assert (result.code, result.out) == (1, "")
    assert result.err == [f"dispatcher: no route and no provider for sms to {TO}"]
