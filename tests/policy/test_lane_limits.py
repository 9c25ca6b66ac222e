"""How lanes are named for limits, which limits a lane meets, and what is asked of each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config import load
from dispatcher.limits import CalendarQuota, Limit
from dispatcher.messages import Lane
from dispatcher.policy.routing import Limits, encode, of_lane

PROVIDERS = '[providers.p]\nkind = "webhook"\n[providers.q]\nkind = "webhook"\n'
Build = Callable[..., Limits]
NOW_US = round(datetime.fromisoformat("2026-11-27T12:00:00+00:00").timestamp() * 1e6)


@pytest.fixture
def limits(tmp_path: Path) -> Build:
    """The limits of a configuration with the providers p and q."""

    def build(toml: str, **batches: int) -> Limits:
        path = tmp_path / "dispatcher.toml"
        path.write_text(PROVIDERS + toml)
        return Limits(load(path, {}), batches)

    return build


def table(name: str, rate: str = "1/s", **keys: str) -> str:
    lines = [f'{key} = "{value}"' for key, value in {"name": name, "rate": rate, **keys}.items()]
    return "\n".join(["[[limits]]", *lines, ""])


def lane_of(limits: Limits, place: str, sender: str = "SHOP", tenant: str = "acme") -> str:
    provider, channel, carrier = place.split("/")
    return limits.lane(provider, channel, carrier, sender, tenant)


def test_a_lane_is_named_by_what_some_limit_there_needs(limits: Build) -> None:
    found = limits(
        table("numbers", provider="p", channel="sms", each="sender")
        + table("de", carrier="de", each="tenant")
        + table("one", tenant="acme", channel="email")
    )
    assert lane_of(found, "p/sms/us") == "p/sms/us/sender=SHOP"
    assert lane_of(found, "p/sms/de") == "p/sms/de/sender=SHOP/tenant=acme"
    assert lane_of(found, "q/sms/us") == "q/sms/us"
    assert lane_of(found, "q/sms/de", tenant="globex") == "q/sms/de/tenant=globex"
    assert lane_of(found, "q/email/google") == "q/email/google/tenant=acme"
    assert lane_of(found, "q/email/google", tenant="globex") == "q/email/google"


def test_a_tenant_with_a_rate_has_lanes_of_its_own(limits: Build) -> None:
    found = limits('[tenants.acme]\nrate = "5/s"\nburst = 2\n[tenants.globex]\nweight = 2\n')
    assert lane_of(found, "p/sms/us") == "p/sms/us/tenant=acme"
    assert lane_of(found, "p/sms/us", tenant="globex") == "p/sms/us"
    assert found.of("p/sms/us/tenant=acme") == ("provider:p", "tenant:acme")
    assert found.define("tenant:acme", NOW_US) == Limit("tenant:acme", 200_000.0, 2)
    assert found.define("tenant:globex", NOW_US) is None


def test_a_sender_limit_of_one_tenant_splits_only_its_lanes(limits: Build) -> None:
    found = limits(table("numbers", tenant="acme", each="sender"))
    assert lane_of(found, "p/sms/us") == "p/sms/us/sender=SHOP/tenant=acme"
    assert lane_of(found, "p/sms/us", tenant="globex") == "p/sms/us"
    assert found.by_sender("p", "sms", "us", "acme")
    assert not found.by_sender("p", "sms", "us", "globex")


SELECTORS = {
    "provider": ("p", "q/sms/de"),
    "channel": ("sms", "p/mms/de"),
    "carrier": ("de", "p/sms/us"),
}


@pytest.mark.parametrize("key", SELECTORS)
def test_a_selector_leaves_out_the_other_lanes(limits: Build, key: str) -> None:
    value, other = SELECTORS[key]
    found = limits(table("n", **{key: value}))
    assert found.of("p/sms/de") == ("provider:p", "n")
    assert found.of(other) == (f"provider:{other[0]}",)


@pytest.mark.parametrize(
    ("each", "name"),
    [
        ("provider", "n/p"), ("channel", "n/sms"), ("carrier", "n/de"), ("tenant", "n/acme"),
        ("sender", "n/My%20Shop%20%3Ca@b.c%3E"),
    ],
)  # fmt: skip
def test_each_makes_a_limit_per_value(limits: Build, each: str, name: str) -> None:
    found = limits(table("n", "4/s", each=each))
    lane = lane_of(found, "p/sms/de", sender="My Shop <a@b.c>")
    assert found.of(lane) == ("provider:p", name)
    assert found.define(name, NOW_US) == Limit(name, 250_000.0)
    assert found.define("n", NOW_US) is None
    assert [limit.name for limit in found.definitions(NOW_US)] == ["provider:p", "provider:q"]


def test_a_limit_of_each_recipient_is_none_of_the_lane(limits: Build) -> None:
    found = limits(
        table("pair", "10/min", channel="whatsapp", each="recipient") + table("all", "9/s")
    )
    lane = lane_of(found, "p/whatsapp/meta")
    assert lane == "p/whatsapp/meta"
    assert found.of(lane) == ("provider:p", "all")
    assert found.recipient(lane) == (Limit("pair", 6_000_000.0),)
    assert found.recipient("p/sms/de") == ()
    assert "pair" not in {limit.name for limit in found.definitions(NOW_US)}


def test_the_limits_of_a_lane_in_their_order(limits: Build) -> None:
    found = limits(
        '[carriers.de]\nrate = "75/s"\n[tenants.acme]\nrate = "9/day"\n'
        + table("numbers", each="sender")
        + table("sms", channel="sms")
    )
    lane = lane_of(found, "p/sms/de", sender="+49155")
    assert lane == "p/sms/de/sender=+49155/tenant=acme"
    assert Lane.parse(lane) == ("p", "sms", "de")
    assert found.of(lane) == ("provider:p", "carrier:de", "tenant:acme", "numbers/+49155", "sms")
    assert all(found.define(name, NOW_US) is not None for name in found.of(lane))


def test_a_lane_named_before_a_limit_came_meets_the_others(limits: Build) -> None:
    found = limits(table("numbers", each="sender") + table("a", tenant="acme") + table("all"))
    assert found.of("p/sms/de") == ("provider:p", "all")


def test_a_provider_without_a_rate_has_its_limit_nevertheless(limits: Build) -> None:
    assert limits("").define("provider:p", NOW_US) == Limit("provider:p")
    assert limits("").definitions(NOW_US) == [Limit("provider:p"), Limit("provider:q")]


@pytest.mark.parametrize("name", ["provider:x", "carrier:de", "tenant:acme", "x", "x/y", "all/x"])
def test_a_limit_that_nobody_configured_is_unknown(limits: Build, name: str) -> None:
    assert limits(table("all")).define(name, NOW_US) is None


def test_of_several_even_rates_the_slowest_holds(limits: Build) -> None:
    found = limits('[[limits]]\nname = "n"\nrate = ["5/s", "60/min", "9000/h"]\n')
    assert found.define("n", NOW_US) == Limit("n", 1_000_000.0)


def test_quotas_end_with_the_day_and_the_month_of_their_time_zone(limits: Build) -> None:
    def us(text: str) -> int:
        return round(datetime.fromisoformat(text).timestamp() * 1e6)

    found = limits(
        '[[limits]]\nname = "n"\nrate = ["2/s", "2000/day", "9000/month"]\n'
        'timezone = "Asia/Tokyo"\n'
    )
    assert found.define("n", us("2026-11-30T16:00:00+00:00")) == Limit(
        "n",
        500_000.0,
        quotas=(
            CalendarQuota(
                2000, "day", (us("2026-12-02T00:00:00+09:00"), us("2026-12-03T00:00:00+09:00"))
            ),
            CalendarQuota(
                9000, "month", (us("2027-01-01T00:00:00+09:00"), us("2027-02-01T00:00:00+09:00"))
            ),
        ),
    )


def test_a_ramp_is_the_intervals_of_its_days(limits: Build) -> None:
    found = limits(
        '[carriers.de]\nrate = "100/s"\nramp = ["10/s", "20/s", "50/s"]\n[carriers.us]\n'
    )
    ramp = (100_000.0, 50_000.0, 20_000.0)
    assert found.define("carrier:de", NOW_US) == Limit("carrier:de", 10_000.0, ramp=ramp)
    assert found.spacing("p/sms/de") == (100_000.0, 0.0)


def test_a_limit_in_requests_is_kept_in_messages(limits: Build) -> None:
    keys = 'burst = 2\nramp = ["1/s"]\n'
    text = f"{table('calls', '10/s', provider='p', unit='request')}{keys}"
    text = text.replace('rate = "10/s"', 'rate = ["10/s", "50/day"]')
    found = limits(text, p=100, q=7)
    limit = found.define("calls", NOW_US)
    assert limit is not None
    assert (limit.interval_us, limit.burst, limit.ramp) == (1_000.0, 200, (10_000.0,))
    assert [quota.count for quota in limit.quotas] == [5000]
    assert found.whole("p/sms/de")
    assert not found.whole("q/sms/de")
    assert found.spacing("p/sms/de") == (10_000.0, 0.0)


def test_a_limit_in_segments_says_so(limits: Build) -> None:
    found = limits(table("parts", "10/s", provider="p", unit="segment") + table("all", "4/s"))
    assert found.define("parts", NOW_US) == Limit("parts", 100_000.0, segments=True)
    assert found.segments("p/sms/de")
    assert not found.segments("q/sms/de")
    assert found.spacing("p/sms/de") == (250_000.0, 100_000.0)


@given(st.text(), st.text())
def test_the_name_of_a_sender_is_one_word_and_its_own(text: str, other: str) -> None:
    name = encode(text)
    assert unquote(name) == text
    assert set(name) <= set("%+._@-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
    assert (encode(other) == name) == (other == text)


def test_a_lane_of_a_sender_sends_as_that_sender() -> None:
    pool = ("+15005550006", "+15005550007", "SHOP 1")
    assert of_lane(pool, "p/sms/de/sender=+15005550007/tenant=a") == ["+15005550007"]
    assert of_lane(pool, f"p/sms/de/sender={encode('SHOP 1')}") == ["SHOP 1"]
    assert of_lane(pool, "p/sms/de") == pool
    assert of_lane(pool, "p/sms/de/sender=GONE") == pool
