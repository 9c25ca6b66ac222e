"""Faults to order: what may go wrong with a request that the provider would have accepted.

Faults stand in a list. A request meets them in order: `slow` and `close` add up, and the first of
the others that strikes ends the walk.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from dispatcher.errors import ConfigError
from dispatcher.simulator.connection import After, Exchange
from dispatcher.simulator.provider import Provider, Refused, Submission
from dispatcher.simulator.wire import Reply

GARBAGE = b"\x16\x03\x01\x00\xa5\x01\x00 this is not HTTP\r\n\r\n"


class Fault(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="fault",
):
    """When a fault strikes. What it does is in the subclasses.

    `probability` is 0 to 1; `every = n` strikes the nth, 2nth ... request that gets this far.
    With both, each of those strikes with that probability. At most `times` times. Only requests
    to `account` ("twilio", "webhook/demo"; "" = all) with a recipient that starts with `to`.
    """

    probability: float = 1.0
    every: int = 1
    times: int | None = None
    account: str = ""
    to: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError("probability is a share from 0 to 1")
        if self.every < 1:
            raise ValueError("every is a number of requests, 1 or more")
        if self.times is not None and self.times < 1:
            raise ValueError("times is a number of requests, 1 or more")

    @property
    def kind(self) -> str:
        """The name of this fault, as settings write it."""
        return str(self.__struct_config__.tag)

    @property
    def ends(self) -> bool:
        """Whether faults further down the list are left out."""
        return True

    @property
    def delay(self) -> float:
        """Seconds added to the latency."""
        return 0.0

    def refusal(self, provider: Provider[Any]) -> Refused | None:
        """Why the message is not accepted; None when it is."""
        return None

    def deliver(self, exchange: Exchange, reply: Reply) -> None:
        """Answer, or do whatever happens instead."""
        exchange.reply(reply)


class Refuse(Fault, frozen=True, tag="refuse"):
    """An error answer: an HTTP `status`, a `code` of the provider ("21610"), or both.

    `retry_after` (seconds) adds that header; `body` replaces the provider's error document.
    """

    status: int | None = None
    code: str = ""
    retry_after: float | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.status is None and not self.code:
            raise ValueError("refuse needs a status, a code or both")
        if self.status is not None and not 400 <= self.status <= 599:
            raise ValueError("status is an HTTP error, 400 to 599")
        if self.retry_after is not None and self.retry_after < 0:
            raise ValueError("retry_after is seconds, 0 or more")

    def refusal(self, provider: Provider[Any]) -> Refused:
        refused = provider.ordered(self.status, self.code)
        if self.retry_after is not None:
            refused.retry_after = self.retry_after
        refused.body = self.body
        return refused


class ResetBefore(Fault, frozen=True, tag="reset-before"):
    """A TCP reset; the message was not accepted."""

    def refusal(self, provider: Provider[Any]) -> Refused:
        return Refused(0, self.kind, "the connection was reset before the message was read")

    def deliver(self, exchange: Exchange, reply: Reply) -> None:
        exchange.reset()


class ResetAfter(Fault, frozen=True, tag="reset-after"):
    """A TCP reset in place of the answer; the message was accepted."""

    def deliver(self, exchange: Exchange, reply: Reply) -> None:
        exchange.reset()


class _Silent(Fault, frozen=True):
    """A fault that hides whether the message was taken; `accept` says whether it was."""

    accept: bool = True

    def refusal(self, provider: Provider[Any]) -> Refused | None:
        return None if self.accept else Refused(0, self.kind, "the message was dropped")


class Hang(_Silent, frozen=True, tag="hang"):
    """No answer, ever; the connection stays open."""

    def deliver(self, exchange: Exchange, reply: Reply) -> None:
        return


class Garbage(_Silent, frozen=True, tag="garbage"):
    """Bytes that are not HTTP, then the end of the connection."""

    def deliver(self, exchange: Exchange, reply: Reply) -> None:
        exchange.write_raw(GARBAGE, After.CLOSE)


class Truncate(Fault, frozen=True, tag="truncate"):
    """Half of the answer to an accepted message: half the JSON document in whole HTTP, or with
    `wire` half of the announced body and then the end of the connection."""

    wire: bool = False

    def deliver(self, exchange: Exchange, reply: Reply) -> None:
        if self.wire:
            exchange.reply_partly(reply)
        else:
            exchange.reply(reply._replace(body=reply.body[: len(reply.body) // 2]))


class Slow(Fault, frozen=True, tag="slow"):
    """An answer that takes `seconds` longer."""

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds < 0:
            raise ValueError("slow: seconds is 0 or more")

    @property
    def ends(self) -> bool:
        return False

    @property
    def delay(self) -> float:
        return self.seconds


class Close(Fault, frozen=True, tag="close"):
    """A proper answer, then the end of the connection."""

    @property
    def ends(self) -> bool:
        return False

    def deliver(self, exchange: Exchange, reply: Reply) -> None:
        exchange.reply(reply, close=True)


AnyFault = Refuse | ResetBefore | ResetAfter | Hang | Garbage | Truncate | Slow | Close
KINDS = tuple(str(kind.__struct_config__.tag) for kind in AnyFault.__args__)


class Strike(NamedTuple):
    """What the faults do to one request."""

    delay: float = 0.0
    fault: Fault | None = None


NO_STRIKE = Strike()


class _Order:
    """One fault of the list, with its counts."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.met = 0
        self.struck = 0

    def strikes(self, label: str, submissions: Sequence[Submission], rng: random.Random) -> bool:
        fault = self.fault
        if fault.times is not None and self.struck >= fault.times:
            return False
        if fault.account not in ("", label, label.partition("/")[0]):
            return False
        if fault.to and not any(one.to.startswith(fault.to) for one in submissions):
            return False
        self.met += 1
        if self.met % fault.every or (fault.probability < 1 and rng.random() >= fault.probability):
            return False
        self.struck += 1
        return True


class FaultPlan:
    """The faults in force. `rng` decides those with a probability."""

    def __init__(self, faults: Iterable[Fault], rng: random.Random) -> None:
        self._rng = rng
        self.order(faults)

    def order(self, faults: Iterable[Fault]) -> None:
        """Replace all faults; their counts start anew."""
        self._orders = [_Order(fault) for fault in faults]

    @property
    def faults(self) -> list[Fault]:
        """The faults in force, in order."""
        return [order.fault for order in self._orders]

    def struck(self) -> list[int]:
        """How often each of `faults` has struck."""
        return [order.struck for order in self._orders]

    def strike(self, label: str, submissions: Sequence[Submission]) -> Strike:
        """What happens to a request of the account `label` with these messages."""
        delay, chosen = 0.0, None
        for order in self._orders:
            if order.strikes(label, submissions, self._rng):
                delay += order.fault.delay
                if order.fault.ends:
                    return Strike(delay, order.fault)
                chosen = chosen if order.fault.delay else order.fault
        return Strike(delay, chosen) if self._orders else NO_STRIKE


def parse_fault(text: str) -> AnyFault:
    """A fault as one short text: `WHAT[:SHARE][:NAME=VALUE...]`.

    WHAT is an HTTP status ("503"), a provider's code ("21610") or the name of a fault ("hang");
    SHARE a percentage. Examples: "500:3%", "429:5%:retry_after=2", "slow:10%:seconds=0.5",
    "reset-after:every=100". Raises ConfigError.
    """
    what, *rest = text.split(":")
    fields: dict[str, Any] = _parse_what(what)
    for part in rest:
        name, equals, value = part.partition("=")
        if equals:
            fields[name] = value
        elif not part.endswith("%"):
            raise ConfigError(f"fault {text!r}: {part!r} is neither a share (3%) nor NAME=VALUE")
        else:
            fields["probability"] = _parse_share(text, part)
    try:
        fault: AnyFault = msgspec.convert(fields, AnyFault, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"fault {text!r}: {error}") from None
    return fault


def _parse_what(what: str) -> dict[str, Any]:
    if what in KINDS:
        return {"fault": what}
    if what.isascii() and what.isdigit():
        return {"fault": "refuse", "status" if len(what) == 3 else "code": what}
    raise ConfigError(
        f"fault {what!r} is unknown; allowed: an HTTP status, a provider's code, {', '.join(KINDS)}"
    )


def _parse_share(text: str, part: str) -> float:
    try:
        return round(float(part[:-1]) / 100, 12)
    except ValueError:
        raise ConfigError(f"fault {text!r}: {part!r} is not a percentage") from None
