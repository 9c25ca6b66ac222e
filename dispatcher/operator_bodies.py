"""The bodies of the operators' calls, for the server and for its clients.

What comes in refuses unknown fields; what goes out may grow. Times are RFC 3339 with an offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct, field

from dispatcher.bodies import Text
from dispatcher.settings import Channel

LetterStatus = Literal["dead", "unknown"]
OutcomeWord = Literal["sent", "delivered", "read", "undelivered", "dead"]


class SuspendLanes(Struct, frozen=True, forbid_unknown_fields=True):
    """Why, and for how long: a duration such as "30m", or "forever"."""

    reason: Text
    for_: str = field(name="for", default="1h")


class SuspendedLanes(Struct, frozen=True):
    """`lane` is the pattern that is suspended, `until` null until it is resumed, `lanes` those of
    it that are known now."""

    lane: str
    until: datetime | None
    reason: str
    lanes: list[str]


class ResumedLanes(Struct, frozen=True):
    """`lanes` are those known now that go on."""

    lane: str
    lanes: list[str]


class LaneState(Struct, frozen=True):
    """One lane: messages that wait by class, what has gone through it since the store began, and
    what holds it back. `orphaned`: its provider is not configured and no worker serves it."""

    lane: str
    provider: str
    channel: str
    carrier: str
    waiting: int
    depth: Mapping[str, int]
    sent: int
    retried: int
    dead: int
    limits: list[str]
    suspended: bool
    suspended_until: datetime | None
    reason: str | None
    orphaned: bool
    waiting_for: str | None


class Suspension(Struct, frozen=True):
    """A pattern of lanes that is suspended, `until` null until it is resumed."""

    lane: str
    until: datetime | None
    reason: str


class LaneList(Struct, frozen=True):
    """Lanes that hold messages or were visited lately, and what is suspended."""

    lanes: list[LaneState]
    suspended: list[Suspension]


class SetLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """A rate (/s, /min, /h) above the configured one; `for` is a duration, else until reset."""

    rate: str
    for_: str | None = field(name="for", default=None)


class QuotaState(Struct, frozen=True):
    """A calendar quota."""

    period: str
    used: int
    of: int
    ends: datetime


class LimitState(Struct, frozen=True):
    """A limit; rates are units per second, null for none. `rate` is in force: the configured one or
    the one set above it, times `factor`. `lanes` wait for it."""

    name: str
    unit: str
    rate: float | None
    configured: float | None
    set: float | None
    set_until: datetime | None
    burst: int
    used: float | None
    booked_seconds: float
    paused_seconds: float
    factor: float
    quotas: list[QuotaState]
    lanes: list[str]


class LimitList(Struct, frozen=True):
    """Every limit of the store and of the configuration."""

    limits: list[LimitState]


class MeantLetters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which letters are meant: all that is given must fit, and `all` is needed where nothing is. A
    dry run only counts."""

    messages: tuple[str, ...] = ()
    provider: str | None = None
    code: str | None = None
    channel: Channel | None = None
    tenant: str | None = None
    since: str | None = None
    all: bool = False
    dry_run: bool = False


class ReplayLetters(MeantLetters, frozen=True, kw_only=True):
    """The letters that are meant; all that is given must fit, and `all` is needed where nothing
    is: among them are messages that may have been sent. `rate` such as "10/s", else as fast as
    limits allow. A dry run only counts."""

    status: LetterStatus | None = None
    rate: str | None = None


class DropLetters(MeantLetters, frozen=True, kw_only=True):
    """The letters that are meant; `all` is needed where nothing else is given."""

    status: LetterStatus | None = None


class ResolveLetters(MeantLetters, frozen=True, kw_only=True):
    """What became of messages whose outcome is unknown: of those that are named, or of the letters
    that are meant. `dead`: certainly not sent. `reason` is for the audit."""

    outcome: OutcomeWord
    reason: str = ""


class LettersCounted(Struct, frozen=True):
    """So many messages of a provider with a code."""

    provider: str
    code: str
    messages: int


class RefusedMessage(Struct, frozen=True):
    """A message that was named and is left alone, and why."""

    message: str
    detail: str


class LettersDone(Struct, frozen=True):
    """What was done, or would be; `left` counts those that stay by the reason, `refused` are the
    first 1,000 of them that were named."""

    messages: int
    dry_run: bool
    by: list[LettersCounted]
    left: Mapping[str, int]
    refused: list[RefusedMessage]


class LettersResolved(LettersDone, frozen=True):
    """The same, counted by outcome; of the messages in `already` the same had been said before."""

    outcomes: Mapping[str, int]
    already: int


class DeadLetter(Struct, frozen=True):
    """A message that failed for good, or (status unknown) may have been sent."""

    message: str
    at: datetime
    status: LetterStatus
    code: str
    detail: str
    provider: str
    channel: str
    carrier: str
    lane: str
    class_: str = field(name="class")
    provider_id: str | None
    expires_at: datetime | None


class LetterList(Struct, frozen=True):
    """The latest that were asked for, and how many there are of any kind."""

    letters: list[DeadLetter]
    total: int


class MoveLanes(Struct, frozen=True, forbid_unknown_fields=True):
    """Where to: a provider."""

    to: Text


class MovedLanes(Struct, frozen=True):
    """Messages moved, also by the lane they left; `left` counts those that the provider cannot
    carry by the reason, `held` those that a worker has."""

    messages: int
    lanes: Mapping[str, int]
    left: Mapping[str, int]
    held: int


class OperatorAction(Struct, frozen=True):
    """What an operator did; `affected` is how many lanes or messages."""

    at: datetime
    who: str
    what: str
    on: str
    detail: str
    reason: str
    affected: int


class Audit(Struct, frozen=True):
    """The latest actions, the newest first."""

    actions: list[OperatorAction]
