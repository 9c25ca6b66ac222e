"""The way of a message, explained from the configuration alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dispatcher.config import Config
from dispatcher.engine.explanation import Explanation, explain
from dispatcher.engine.ingest import Ingest
from dispatcher.engine.runtime import create_providers
from dispatcher.errors import InvalidMessage, UsageError
from dispatcher.policy.routing import pick_sender

TO = "+4915112345678"
POOL = ("+4915550006", "+4915550007")
TOML = f"""
[tenants.acme]
token = "secret"
rate = "20/s"
[providers.one]
kind = "webhook"
url = "http://127.0.0.1:9/one"
[providers.two]
kind = "webhook"
url = "http://127.0.0.1:9/two"
[senders.shop]
one = ["{POOL[0]}", "{POOL[1]}"]
[carriers.de-telekom]
prefixes = ["+4915", "+49151"]
rate = "75/s"
[[limits]]
name = "numbers"
provider = "one"
each = "sender"
rate = "1/s"
[[limits]]
name = "pairs"
provider = "two"
each = "recipient"
rate = "10/min"
[[routes]]
channel = "sms"
to = "+43*"
providers = ["one"]
[[routes]]
to = "+49*"
providers = ["two", "one"]
"""


@pytest.fixture
def ingest(configure: Callable[[str], Config]) -> Ingest:
    config = configure(TOML)
    return Ingest(config, create_providers(config))


def test_carrier_and_route(ingest: Ingest) -> None:
    found = explain(ingest, "sms", "+49 151 1234-5678", "SHOP", "default")
    assert (found.to, found.channel, found.carrier) == (TO, "sms", "de-telekom")
    assert found.found_by == "+49151 in [carriers.de-telekom]"
    assert found.route == "routes[1], to +49*"
    assert [choice.provider for choice in found.choices] == ["two", "one"]


def test_lanes_and_limits(ingest: Ingest) -> None:
    two, one = explain(ingest, "sms", TO, "SHOP", "acme").choices
    assert two.lane == "two/sms/de-telekom/tenant=acme"
    assert set(two.limits) == {"provider:two", "carrier:de-telekom", "tenant:acme"}
    assert two.recipient == ("pairs",)
    assert one.lane == "one/sms/de-telekom/sender=SHOP/tenant=acme"
    assert set(one.limits) == {
        "provider:one", "carrier:de-telekom", "tenant:acme", "numbers/SHOP",
    }  # fmt: skip
    assert (one.sender, one.pool, one.recipient) == ("SHOP", 1, ())


def test_a_pool_and_a_provider_without_the_sender(ingest: Ingest) -> None:
    two, one = explain(ingest, "sms", TO, "shop", "default").choices
    assert two.refusal == "senders.shop names no sender of two"
    assert (one.sender, one.pool) == (pick_sender(POOL, TO), 2)
    assert one.lane == f"one/sms/de-telekom/sender={one.sender}"


def test_limits_per_sender_need_one(ingest: Ingest) -> None:
    with pytest.raises(UsageError, match=r"^one has limits per sender: say which one with --from$"):
        explain(ingest, "sms", TO, None, "default")


def test_no_sender_is_needed_elsewhere(configure: Callable[[str], Config]) -> None:
    config = configure('[providers.p]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n')
    found = explain(Ingest(config, create_providers(config)), "sms", TO, None, "default")
    assert found.route == "every provider of sms: there are no [[routes]]"
    (choice,) = found.choices
    assert (choice.sender, choice.lane, choice.limits) == (None, "p/sms/de", ("provider:p",))


def test_what_cannot_be_a_message(ingest: Ingest) -> None:
    with pytest.raises(UsageError, match="has no leading"):
        explain(ingest, "sms", "12", "SHOP", "default")
    with pytest.raises(InvalidMessage, match="no route"):
        explain(ingest, "sms", "+15551234567", "SHOP", "default")


@pytest.mark.parametrize(
    ("channel", "to", "carrier", "words"),
    [
        ("sms", "+4917112345678", "de", "the country: no prefix is configured for it"),
        ("sms", "+4915012345678", "de-telekom", "+4915 in [carriers.de-telekom]"),
        ("email", "ann@gmail.com", "google", "gmail.com"),
        ("email", "ann@example.com", "other-mail", "example.com is no known mailbox provider"),
        ("whatsapp", TO, "meta", "channel whatsapp"),
        ("sms", "+2101234567", "other", "nothing is known of it"),
    ],
)
def test_where_a_carrier_comes_from(
    configure: Callable[[str], Config], channel: str, to: str, carrier: str, words: str
) -> None:
    found = everywhere(configure, channel, to)
    assert (found.carrier, found.found_by) == (carrier, words)


def everywhere(configure: Callable[[str], Config], channel: str, to: str) -> Explanation:
    """What is said where every recipient has a route."""
    config = configure(TOML.partition("[[limits]]")[0])
    return explain(Ingest(config, create_providers(config)), channel, to, "SHOP", "default")
