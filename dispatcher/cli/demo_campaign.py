"""What the demo sends and against what: six carriers, a campaign for them, a provider that fails.

Everything follows from the number of messages, so two demos of the same size send the same.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import msgspec

from dispatcher.settings import toml_value
from dispatcher.simulator import (
    Garbage,
    Hang,
    Latency,
    Refuse,
    ResetAfter,
    ResetBefore,
    Settings,
    TwilioAccount,
)
from dispatcher.simulator.faults import AnyFault

PROVIDER = "twilio"
TEXT = "Hi {name}, your parcel {parcel} arrives today between 2 and 4 pm."
PROVIDER_RATE = 2000
"""What our configuration allows the provider, in messages per second; the carriers allow less."""
RETRY_AFTER = 1.0
"""Seconds the provider asks us to pause when it throttles."""
TIMEOUT = "2s"
SEED = 7
_NAMES = ("Ann", "Ben", "Chloe", "Dario", "Eva", "Finn", "Gül", "Hugo", "Ines", "Jón")


class Carrier(NamedTuple):
    """One mobile operator; `rate` is in messages per second."""

    name: str
    prefix: str
    rate: int

    @property
    def lane(self) -> str:
        """The lane of its text messages."""
        return f"{PROVIDER}/sms/{self.name}"


CARRIERS = (
    Carrier("us-verizon", "+1201", 300),
    Carrier("us-att", "+1214", 170),
    Carrier("gb-ee", "+44747", 110),
    Carrier("de-telekom", "+49151", 70),
    Carrier("fr-orange", "+33607", 45),
    Carrier("de-vodafone", "+49172", 25),
)


def share(messages: int) -> list[int]:
    """Messages per carrier in proportion to its rate, so that all lanes end together."""
    whole = sum(carrier.rate for carrier in CARRIERS)
    ends = [messages * rate // whole for rate in accumulate(c.rate for c in CARRIERS)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def recipients(messages: int) -> list[str]:
    """The recipient of every record, each of them once, the carriers mixed."""
    numbers = [
        f"{carrier.prefix}{serial:07d}"
        for carrier, count in zip(CARRIERS, share(messages), strict=True)
        for serial in range(count)
    ]
    random.Random(SEED).shuffle(numbers)
    return numbers


def write_campaign(path: Path, numbers: Sequence[str]) -> None:
    """The file for `dispatcher send`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("to", "name", "parcel"))
        for serial, number in enumerate(numbers):
            writer.writerow((number, _NAMES[serial % len(_NAMES)], f"P{serial:06d}"))


def write_simulator(path: Path, messages: int, account: TwilioAccount) -> None:
    """The settings file of `dispatcher simulator`."""
    settings = Settings((account,), tuple(_faults(messages)), SEED)
    path.write_bytes(msgspec.json.encode(settings))


def new_account(token: str) -> TwilioAccount:
    """The account at the simulated provider."""
    return TwilioAccount(auth_token=token, latency=Latency(0.025, 0.01))


def _faults(messages: int) -> list[AnyFault]:
    """About 3 % of all requests: passing faults, refused messages, outcomes nobody knows. Three
    times in a campaign the provider throttles: five requests in a row get 429."""
    burst = Refuse(status=429, retry_after=RETRY_AFTER, every=max(200, messages * 3 // 10))
    rare = max(100, messages // 4)
    return [
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
    ]


def write_config(path: Path, store: Path, url: str, account: TwilioAccount) -> None:
    """The `dispatcher.toml` of every process of the demo. `url` is where the simulator listens."""
    carriers = "\n".join(
        f'[carriers.{c.name}]\nprefixes = [{toml_value(c.prefix)}]\nrate = "{c.rate}/s"\n'
        for c in CARRIERS
    )
    path.write_text(
        f"""[store]
data_dir = {toml_value(str(store))}

[worker]
port = 0

[log]
format = "plain"

[providers.{PROVIDER}]
kind = "twilio"
base_url = {toml_value(url)}
account_sid = {toml_value(account.account_sid)}
auth_token = {toml_value(account.auth_token)}
rate = "{PROVIDER_RATE}/s"
timeout = "{TIMEOUT}"

[senders.shop]
{PROVIDER} = ["+15005550006"]

[[routes]]
channel = "sms"
providers = ["{PROVIDER}"]

[retry]
base = "500ms"
max = "4s"

{carriers}""",
        encoding="utf-8",
    )
