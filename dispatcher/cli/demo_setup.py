"""What the demo runs against: two providers that fail, and the configuration that uses them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from dispatcher.cli.demo_campaign import CARRIERS, REJECTED, SEED, SENDER, Carrier
from dispatcher.simulator import (
    Garbage,
    Hang,
    Latency,
    Refuse,
    ResetAfter,
    ResetBefore,
    SendGridAccount,
    Settings,
    TwilioAccount,
)
from dispatcher.simulator.faults import AnyFault
from dispatcher.toml import toml_value

TWILIO_RATE = 4000
"""What our configuration allows Twilio, in messages per second; the carriers allow less."""
BATCH = 500
"""Most e-mails in one request."""
REQUESTS = 4
"""Requests with e-mails in flight: more would only keep text messages waiting for the processor."""
BATCH_WAIT = 1.0
"""Seconds a request waits to be filled."""
RETRY_AFTER = 1.0
"""Seconds the providers ask us to pause when they throttle."""
TENANT = "login"
"""Who posts one-time codes; the campaigns are of the default tenant."""


class Throttle(NamedTuple):
    """How a provider throttles: the code in its journal, and the seconds it is left alone."""

    code: str
    seconds: float


THROTTLES = {
    "sms": Throttle("20429", RETRY_AFTER),
    "email": Throttle("429", RETRY_AFTER + 1),
}
"""Per channel. SendGrid names the end of the pause in whole seconds, so that takes one more."""


class Accounts(NamedTuple):
    """Who we are at the providers, and who the API believes."""

    twilio: TwilioAccount
    sendgrid: SendGridAccount
    token: str

    @classmethod
    def create(cls) -> Self:
        """Accounts with secrets of their own."""
        return cls(
            TwilioAccount(auth_token=secrets.token_hex(16), latency=Latency(0.025, 0.01)),
            SendGridAccount(
                api_key=f"SG.{secrets.token_hex(16)}",
                rejects=(REJECTED,),
                latency=Latency(0.06, 0.02),
            ),
            secrets.token_hex(16),
        )


def write_simulator(path: Path, channel: str, messages: int, accounts: Accounts) -> None:
    """The settings file of the `dispatcher simulator` of a channel, for so many text messages."""
    if channel == "sms":
        settings = Settings((accounts.twilio,), _sms_faults(messages), SEED)
    else:
        settings = Settings((accounts.sendgrid,), _email_faults(), SEED)
    path.write_bytes(msgspec.json.encode(settings))


def _sms_faults(messages: int) -> tuple[AnyFault, ...]:
    """About 3 % of all requests: passing faults, refused messages, outcomes nobody knows. Three
    times in a campaign the provider throttles: five requests in a row get 429."""
    burst = Refuse(status=429, retry_after=RETRY_AFTER, every=max(200, messages * 3 // 10))
    rare = max(100, messages // 4)
    return (
        *([burst] * 5),
        Hang(every=rare, times=2),
        Hang(every=rare, times=1, accept=False),
        Refuse(status=500, probability=0.008),
        Refuse(status=503, probability=0.006),
        Refuse(code="21211", probability=0.003),
        Refuse(code="21614", probability=0.002),
        Refuse(code="21408", probability=0.001),
        Refuse(code="21610", probability=0.004),
        ResetBefore(probability=0.0025),
        ResetAfter(probability=0.002),
        Garbage(probability=0.001),
    )


def _email_faults() -> tuple[AnyFault, ...]:
    """Two requests fail and one is throttled; another names the address that is none. Each of them
    carries hundreds of messages."""
    return (
        Refuse(status=429, retry_after=RETRY_AFTER, every=5, times=1),
        Refuse(status=500, every=3, times=2),
    )


def write_config(path: Path, store: Path, urls: Mapping[str, str], accounts: Accounts) -> None:
    """The `dispatcher.toml` of every process of the demo. `urls` is where the simulators listen, by
    channel."""
    twilio, sendgrid = accounts.twilio, accounts.sendgrid
    path.write_text(
        f"""[store]
data_dir = {toml_value(str(store))}

[worker]
port = 0

[log]
format = "plain"

[tenants.{TENANT}]
token = {toml_value(accounts.token)}

[providers.twilio]
kind = "twilio"
base_url = {toml_value(urls["sms"])}
account_sid = {toml_value(twilio.account_sid)}
auth_token = {toml_value(twilio.auth_token)}
rate = "{TWILIO_RATE}/s"
timeout = "2s"

[providers.sendgrid]
kind = "sendgrid"
base_url = {toml_value(urls["email"])}
api_key = {toml_value(sendgrid.api_key)}
batch = {BATCH}
batch_wait = "{BATCH_WAIT:g}s"
concurrency = {REQUESTS}
timeout = "5s"

[senders.{SENDER}]
twilio = ["+15005550006"]
sendgrid = ["Shop <hello@shop.example>"]

[[routes]]
channel = "sms"
providers = ["twilio"]

[[routes]]
channel = "email"
providers = ["sendgrid"]

[retry]
base = "500ms"
max = "4s"

{"".join(map(_carrier, CARRIERS))}""",
        encoding="utf-8",
    )


def _carrier(carrier: Carrier) -> str:
    if carrier.rate is None:
        return ""
    prefixes = f"prefixes = [{toml_value(carrier.place)}]\n" if carrier.channel == "sms" else ""
    return f'[carriers.{carrier.name}]\n{prefixes}rate = "{carrier.rate}/s"\n\n'
