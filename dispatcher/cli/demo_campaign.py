"""What the demo sends: a campaign of text messages, one of e-mails, and one-time codes.

Everything follows from the number of text messages, so two demos of the same size send the same.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

PROVIDERS = {"sms": "twilio", "email": "sendgrid"}
"""Channel → the provider that carries it."""
SENDER = "shop"
TEXT = "Hi {name}, your parcel {parcel} arrives today between 2 and 4 pm."
HTML = "<p>Hi <b>{name}</b>,</p><p>your parcel {parcel} arrives today between 2 and 4 pm.</p>"
SUBJECT = "{name}, parcel {parcel} is on its way"
CODE_TEXT = "Your code is {code}."
SEED = 7
_NAMES = ("Ann", "Ben", "Chloe", "Dario", "Eva", "Finn", "Gül", "Hugo", "Ines", "Jón")
_CODE_SERIALS = 9_000_000
"""Where the numbers begin that get codes: the campaign stays below."""


class Carrier(NamedTuple):
    """One mobile operator or mailbox provider. `place` is the prefix of its numbers or the domain
    of its addresses, `share` its part of the campaign against those of the others, `rate` its
    limit in messages per second."""

    name: str
    channel: str
    place: str
    share: int
    rate: int | None

    @property
    def lane(self) -> str:
        """The lane of its messages."""
        return f"{PROVIDERS[self.channel]}/{self.channel}/{self.name}"

    def recipient(self, serial: int) -> str:
        """One of its customers."""
        if self.channel == "sms":
            return f"{self.place}{serial:07d}"
        return f"customer{serial:06d}@{self.place}"

    def serves(self, to: str) -> bool:
        """Whether a recipient is one of its customers."""
        return to.startswith(self.place) if self.channel == "sms" else to.endswith(f"@{self.place}")


def _operator(name: str, prefix: str, rate: int) -> Carrier:
    """Its share is its rate, so that all lanes end together."""
    return Carrier(name, "sms", prefix, rate, rate)


OPERATORS = (
    _operator("us-verizon", "+1201", 580),
    _operator("us-att", "+1214", 330),
    _operator("gb-ee", "+44747", 215),
    _operator("de-telekom", "+49151", 135),
    _operator("fr-orange", "+33607", 90),
    _operator("de-vodafone", "+49172", 50),
)
MAILBOXES = (
    Carrier("google", "email", "gmail.com", 42, None),
    Carrier("microsoft", "email", "outlook.com", 20, 150),
    Carrier("yahoo", "email", "yahoo.com", 16, None),
    Carrier("apple", "email", "icloud.com", 12, None),
    Carrier("gmx", "email", "gmx.net", 10, None),
)
CARRIERS = OPERATORS + MAILBOXES
REJECTED = MAILBOXES[0].recipient(0)
"""The one address that the provider knows to be none."""


def emails(messages: int) -> int:
    """E-mails beside so many text messages."""
    return (messages + 1) // 2


def codes(messages: int) -> int:
    """One-time codes beside so many text messages."""
    return max(1, messages * 3 // 200)


def seconds(messages: int) -> float:
    """How long so many text messages take at the limits of their carriers."""
    return messages / sum(carrier.share for carrier in OPERATORS)


def share(messages: int, carriers: Sequence[Carrier]) -> list[int]:
    """Messages per carrier."""
    whole = sum(carrier.share for carrier in carriers)
    ends = [messages * part // whole for part in accumulate(c.share for c in carriers)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def recipients(messages: int, carriers: Sequence[Carrier], first: int = 0) -> list[str]:
    """The recipient of every message, each of them once, the carriers mixed. `first` is the serial
    number at which each carrier begins."""
    found = [
        carrier.recipient(serial)
        for carrier, count in zip(carriers, share(messages, carriers), strict=True)
        for serial in range(first, first + count)
    ]
    random.Random(SEED).shuffle(found)
    return found


def code_recipients(messages: int) -> list[str]:
    """Who gets a code: customers of the same operators as the campaign's, but others."""
    return recipients(messages, OPERATORS, _CODE_SERIALS)


def write_campaign(path: Path, to: Sequence[str]) -> None:
    """The file for `dispatcher send`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("to", "name", "parcel"))
        for serial, recipient in enumerate(to):
            writer.writerow((recipient, _NAMES[serial % len(_NAMES)], f"P{serial:06d}"))
