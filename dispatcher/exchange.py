"""What providers and transports say to each other: a request out, one result in.

A provider turns a message into a request and an answer into a verdict and never sees a socket;
a transport moves bytes and knows no provider. Both import only this file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Protocol

import msgspec

from dispatcher.errors import SendError
from dispatcher.messages import Content, Envelope

if hasattr(time, "CLOCK_BOOTTIME"):

    def monotonic() -> float:
        """Seconds on a clock that also counts while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
else:
    monotonic = time.monotonic


def _always() -> bool:
    return True


class HttpRequest(msgspec.Struct, gc=False):
    """One HTTP request. `url` is absolute; `timeout` (seconds) runs from the first byte written
    to the last byte of the answer.

    `write_by`, a time of `monotonic`, bounds the wait for a connection: a request that still waits
    then ends as NOT_SENT with the reason "deadline", and so does one that `may_write` refuses when
    a connection would take it. One that an idle connection takes inside `send` need not be looked
    at again: the caller has just done so.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout: float
    write_by: float | None = None
    may_write: Callable[[], bool] = _always


class HttpAnswer(msgspec.Struct, frozen=True, gc=False):
    """One whole HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Delivery(Enum):
    """How far a request came."""

    NOT_SENT = "not sent"
    """No byte was written: the provider cannot have seen it."""
    ANSWERED = "answered"
    """A complete answer was read."""
    UNKNOWN = "unknown"
    """At least one byte was written and no complete answer came back."""


class Result(msgspec.Struct, frozen=True, gc=False):
    """The end of one send. `answer` is set exactly when `delivery` is ANSWERED; `reason` is one
    word for the other two: "connect", "timeout", "deadline", "reset", "protocol"."""

    delivery: Delivery
    answer: HttpAnswer | None = None
    reason: str = ""


Done = Callable[[Result], None]
"""Called exactly once per send, from the event loop, never from inside `send` itself."""


class Transport(Protocol):
    """Moves requests. `send` never raises and never waits."""

    def send(self, request: HttpRequest, done: Done) -> None:
        """Write the request as soon as possible; call `done` once with the result."""
        ...

    async def close(self) -> None:
        """Close idle connections; sends under way end as UNKNOWN or NOT_SENT."""
        ...


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The provider has taken the message; `provider_id` is its own id, where it gave one."""

    provider_id: str | None = None


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One message as a provider needs it; `sender` is the literal the recipient sees.

    `values` are the parameters, in the order of `Envelope.columns`; `render` makes the text of
    them, for providers that do not put them in themselves.
    """

    id: str
    to: str
    sender: str
    values: Sequence[str | None]
    ref: str | None
    render: Callable[[Sequence[str | None]], str]

    @property
    def text(self) -> str:
        """The finished text. Raises InvalidMessage for a parameter without a value."""
        return self.render(self.values)


class Provider(Protocol):
    """One account at a provider: a pure translation, without sockets.

    `idempotent` says whether the provider itself drops a message it has seen before;
    `text_characters` is the longest text it takes, None for any; `batch` is the most messages
    one request carries. Above 1 it is a BatchProvider, and `compose` and `read` are not used.
    """

    name: str
    channels: frozenset[str]
    idempotent: bool
    text_characters: int | None
    batch: int

    def check(self, channel: str, content: Content) -> None:
        """Refuse what this provider cannot carry. Raises InvalidMessage with the reason."""
        ...

    def compose(self, envelope: Envelope) -> Callable[[Outgoing], HttpRequest]:
        """Prepare what all messages of an entry share; the result makes one request each."""
        ...

    def read(self, answer: HttpAnswer) -> Accepted | SendError:
        """What an answer means. Never raises."""
        ...


class BatchProvider(Provider, Protocol):
    """A provider that takes many messages in one request."""

    def compose_batch(self, envelope: Envelope) -> Callable[[Sequence[Outgoing]], HttpRequest]:
        """Prepare what all messages of an entry share; the result makes one request of 1 to
        `batch` messages, all of them with this envelope."""
        ...

    def read_batch(self, answer: HttpAnswer, count: int) -> Sequence[Accepted | SendError]:
        """What an answer means for each of the `count` messages, in their order. Never raises,
        and the result always has `count` verdicts. Where all of them are Unsent the request was
        too large: the same messages pass in smaller ones only."""
        ...
