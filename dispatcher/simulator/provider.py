"""What every fake provider has in common: account settings, and how a request is judged.

A provider is one file: an `AccountSettings` with its `build`, and a `Provider`. It is listed in
`settings.py` and needs nothing else.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

import msgspec

from dispatcher.simulator.wire import Reply, Request

_ids = random.Random()


def new_id(prefix: str) -> str:
    """A provider's message id: `prefix` and 32 random hex digits, never the same again."""
    return f"{prefix}{_ids.getrandbits(128):032x}"


class Refused(Exception):
    """A request, or one message of it, that the provider does not accept.

    `status` is the HTTP status, `code` the provider's own code, `retry_after` seconds. `body`
    replaces the provider's error document (what a load balancer in front of it would say). `about`
    are the messages at fault, where a request is refused for some of them.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_after: float | None = None,
        body: str | None = None,
        about: Sequence[Submission] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.body = body
        self.about = about


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds between a request and its answer.

    `uniform` lies between `mean - jitter` and `mean + jitter`; `lognormal` has `jitter` as its
    standard deviation and a long tail.
    """

    mean: float = 0.0
    jitter: float = 0.0
    shape: Literal["uniform", "lognormal"] = "uniform"

    def __post_init__(self) -> None:
        if self.mean < 0 or self.jitter < 0:
            raise ValueError("latency: mean and jitter are seconds, 0 or more")
        if self.shape == "lognormal" and self.mean == 0:
            raise ValueError("latency: a lognormal one needs a mean above 0 seconds")

    def draw(self, rng: random.Random) -> float:
        """One latency in seconds."""
        if not self.jitter:
            return self.mean
        if self.shape == "uniform":
            return max(0.0, rng.uniform(self.mean - self.jitter, self.mean + self.jitter))
        variance = math.log(1 + (self.jitter / self.mean) ** 2)
        return rng.lognormvariate(math.log(self.mean) - variance / 2, math.sqrt(variance))


class AccountSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """What the settings of every account hold. Those of one provider add `name`, what the account
    is called there, and `build`, which makes the provider that answers for it.

    `rate` is messages per second (None: no limit) and `burst` how many may come at once (None: a
    tenth of a second's worth, at least 1). `concurrency` bounds the requests being answered. A
    request is refused for its shape before the limit is looked at, so it takes nothing from it.
    """

    rate: float | None = None
    burst: int | None = None
    concurrency: int | None = None
    latency: Latency = Latency()
    suspended: bool = False

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise ValueError("rate is messages per second, above 0")
        if self.burst is not None and self.burst < 1:
            raise ValueError("burst is a number of messages, 1 or more")
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError("concurrency is a number of requests, 1 or more")


class Submission(NamedTuple):
    """One message as a request carried it.

    `key` is its Idempotency-Key, `message` the sender's own id for it ("" where it has none).
    `refused` is set when a batch was read and this message of it was not good. `fields` is what
    else the provider needs for its answer.
    """

    to: str
    sender: str
    text: str
    key: str = ""
    message: str = ""
    refused: Refused | None = None
    fields: Mapping[str, str] = {}


Event = Literal["accepted", "repeat", "refused"]


class Outcome(NamedTuple):
    """What the provider made of one message: its own id for it, or the code of the refusal."""

    event: Event
    id: str = ""
    code: str = ""


Settings = TypeVar("Settings", bound=AccountSettings)


class Provider(ABC, Generic[Settings]):
    """The API of one provider, as one account sees it. No sockets, no clock."""

    kind: ClassVar[str]
    prefix: ClassVar[str]
    """Every path of this provider starts so."""

    def __init__(self, settings: Settings) -> None:
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take over new settings of the same account."""
        self.settings = settings

    @property
    @abstractmethod
    def path(self) -> str:
        """Where this account takes messages."""

    @abstractmethod
    def authenticate(self, request: Request) -> None:
        """Raises Refused when the request may not use this account."""

    @abstractmethod
    def read(self, request: Request) -> Sequence[Submission]:
        """The messages of a request, at least one. Raises Refused when it is malformed."""

    @abstractmethod
    def accept(
        self, submissions: Sequence[Submission], concurrency: int
    ) -> tuple[Reply, Sequence[Outcome]]:
        """Take messages in. `concurrency` is the number of requests being answered, with this."""

    @abstractmethod
    def suspended(self) -> Refused:
        """What a suspended account is told."""

    @abstractmethod
    def throttled(self, retry_after: float) -> Refused:
        """What a client above its limit is told; `retry_after` is in seconds."""

    @abstractmethod
    def ordered(self, status: int | None, code: str) -> Refused:
        """The refusal for an HTTP status, a code of the provider, or both."""

    @classmethod
    @abstractmethod
    def unknown(cls, request: Request) -> Refused:
        """What a request to no known account is told."""

    @classmethod
    @abstractmethod
    def refusal(cls, refused: Refused) -> Reply:
        """The answer that carries a refusal, in the provider's own error document."""

    def forget(self) -> None:
        """Start anew, as if no message had come before. Nothing to do where none is remembered."""


def retry_after_header(refused: Refused) -> tuple[tuple[str, str], ...]:
    """Retry-After in whole seconds, where the refusal names a time."""
    if refused.retry_after is None:
        return ()
    return (("Retry-After", str(math.ceil(refused.retry_after))),)
