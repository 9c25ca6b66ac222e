"""The vocabulary of messages and the format of what is queued.

An entry is one stream item: an envelope that all its messages share, stored once, and one row per
message. Its body is MessagePack, `[FORMAT, envelope, rows]`, every struct written as an array, so a
row costs little more than its recipient and parameters. Fields are only ever added at the end of a
struct, with a default: older bodies then still decode. Anything else is a new FORMAT.

Times are integers by the store's clock: `_us` microseconds, `_ms` milliseconds since 1970.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

import msgspec

from dispatcher.errors import DispatcherError, InvalidMessage

FORMAT = 1
"""Version of the entry body. A worker defers an entry whose format it does not know."""

CHANNELS = ("sms", "mms", "rcs", "whatsapp", "messenger", "email", "push", "voice")
CLASSES = ("urgent", "normal", "bulk")
"""In order of urgency."""

HISTORY = 10
"""Attempts a message remembers, the latest."""
ENTRY_MESSAGES = 500
"""Messages in one entry, at most."""


class Status(StrEnum):
    """Where a message stands. The value is its one-letter code in the store."""

    QUEUED = "q"
    SCHEDULED = "z"
    UNKNOWN = "u"
    SENT = "s"
    UNDELIVERED = "f"
    DELIVERED = "v"
    READ = "r"
    DEAD = "d"
    EXPIRED = "e"
    CANCELLED = "c"
    SUPPRESSED = "x"

    @property
    def word(self) -> str:
        """The status as users see it: `Status.SENT.word == "sent"`."""
        return self.name.lower()


class Content(msgspec.Struct, array_like=True, frozen=True):
    """What is said: exactly one of `text` and `template`, the rest where the channel has it."""

    text: str | None = None
    template: str | None = None
    language: str | None = None
    subject: str | None = None
    html: str | None = None
    media: tuple[str, ...] = ()
    reply_to: str | None = None
    headers: dict[str, str] = {}


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """What all messages of an entry share.

    `sender` is `from` as submitted; `columns` names the values of every row; `providers` is the
    failover order, the first one being where the message started; `accepted_us` is when it was
    accepted, or `send_at` if that is later; `expires_us` is 0 for messages without a ttl.
    """

    batch: str
    tenant: str
    channel: str
    class_: str
    sender: str
    accepted_us: int
    expires_us: int
    content: Content
    columns: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    campaign: str | None = None
    on_unknown: str | None = None


class Attempt(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One send that reached a provider, a deferral, or what somebody did or told of later, as the
    story of a message tells it; `by` is who, empty for a worker."""

    at_ms: int
    provider: str
    code: str
    by: str = ""


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One message. `hop` counts how often it was put back (retry, deferral, return, replay): two
    records of the same message are ordered by it. `age_ms` is the time since its first attempt,
    less what it spent waiting for a limit, a suspension or a breaker."""

    index: int
    to: str
    values: tuple[str | None, ...] = ()
    ref: str | None = None
    hop: int = 0
    attempts: int = 0
    age_ms: int = 0
    history: tuple[Attempt, ...] = ()


class _Body(msgspec.Struct, array_like=True, frozen=True):
    format: int
    envelope: Envelope
    rows: list[Row]


class UnknownFormat(DispatcherError):
    """A body was written by a newer version; whoever knows it must handle it."""


_encoder = msgspec.msgpack.Encoder()
_body_decoder = msgspec.msgpack.Decoder(_Body)
_format_decoder = msgspec.msgpack.Decoder(list[Any])


def encode_body(envelope: Envelope, rows: Sequence[Row | Sequence[Any]]) -> bytes:
    """The body of one entry. A fresh row may be a plain `(index, to, values, ref)` sequence, cut
    short where the rest has its default."""
    return _encoder.encode((FORMAT, envelope, rows))


def decode_body(body: bytes) -> tuple[Envelope, list[Row]]:
    """Read a body. Raises UnknownFormat for another format version or a damaged body."""
    try:
        decoded = _body_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise UnknownFormat(f"entry body of format {_format_of(body)}: {error}") from None
    if decoded.format != FORMAT:
        raise UnknownFormat(f"entry body of format {decoded.format}, this version reads {FORMAT}")
    return decoded.envelope, decoded.rows


class _Number(msgspec.Struct, array_like=True, frozen=True, gc=False):
    index: int


class _Numbered(msgspec.Struct, array_like=True, frozen=True):
    format: int
    envelope: msgspec.Raw
    rows: list[_Number]


_numbered_decoder = msgspec.msgpack.Decoder(_Numbered)


def indexes_of(body: bytes) -> list[int]:
    """Which messages a body of this version has; a fraction of the cost of `decode_body`."""
    return [row.index for row in _numbered_decoder.decode(body).rows]


def _format_of(body: bytes) -> object:
    try:
        return _format_decoder.decode(body)[0]
    except (msgspec.DecodeError, IndexError):
        return "unreadable"


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is known of one message after its last settle; absent while it was never settled."""

    at_ms: int
    lane: str
    to: str
    ref: str | None = None
    provider_id: str | None = None
    code: str | None = None
    detail: str | None = None
    due_ms: int = 0
    attempts: int = 0
    history: tuple[Attempt, ...] = ()


_record_decoder = msgspec.msgpack.Decoder(Record)


def encode_record(status: Status, hop: int, record: Record) -> bytes:
    """One value of a status hash: the status letter and the hop (two bytes, big endian) stand
    in front, so that scripts can order two values without decoding them."""
    return status.value.encode() + min(hop, 65535).to_bytes(2, "big") + _encoder.encode(record)


def decode_record(value: bytes) -> tuple[Status, int, Record]:
    """The inverse of `encode_record`. Raises UnknownFormat for one of another version."""
    try:
        status, record = Status(chr(value[0])), _record_decoder.decode(value[3:])
    except (ValueError, IndexError, msgspec.MsgspecError) as error:
        raise UnknownFormat(f"a record of an unknown format ({error})") from None
    return status, int.from_bytes(value[1:3], "big"), record


SentRow: TypeAlias = tuple[int, str, str | None, str | None]
"""A message that was accepted at its first attempt: index, to, ref, the provider's id."""


class _Sheet(msgspec.Struct, array_like=True, frozen=True):
    at_ms: int
    lane: str
    rows: list[SentRow]


_sheet_decoder = msgspec.msgpack.Decoder(_Sheet)


def encode_sheet(at_ms: int, lane: str, rows: Sequence[SentRow]) -> bytes:
    """Messages of one lane that were sent at their first attempt, as one value: most of them are,
    and together they cost a fraction of a record each."""
    return _encoder.encode((at_ms, lane, rows))


def decode_sheet(value: bytes) -> Iterator[tuple[int, Record]]:
    """The inverse of `encode_sheet`: what a record of each message would say. Raises UnknownFormat
    for one of another version."""
    try:
        sheet = _sheet_decoder.decode(value)
    except (ValueError, msgspec.MsgspecError) as error:
        raise UnknownFormat(f"a sheet of an unknown format ({error})") from None
    for index, to, ref, provider_id in sheet.rows:
        yield index, Record(sheet.at_ms, sheet.lane, to, ref, provider_id, attempts=1)


class Lane(NamedTuple):
    """The unit of throttling, written `provider/channel/carrier`."""

    provider: str
    channel: str
    carrier: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.channel}/{self.carrier}"

    @classmethod
    def parse(cls, text: str) -> Lane:
        """Read `provider/channel/carrier`, ignoring a further `/sender` or `/tenant`."""
        provider, channel, carrier = text.split("/", 3)[:3]
        return cls(provider, channel, carrier)


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]


def new_ulid(now_ms: int) -> str:
    """A ULID: 48 bits of time and 80 random bits in Crockford base 32, sortable by time.
    Source: github.com/ulid/spec."""
    number = now_ms << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def is_ulid(text: str) -> bool:
    """Whether `text` is a ULID as `new_ulid` writes it."""
    return len(text) == 26 and text[0] <= "7" and all(char in _CROCKFORD for char in text)


def message_id(batch: str, index: int) -> str:
    """The id of message `index` of a batch."""
    return f"{batch}-{index}"


def parse_message_id(text: str) -> tuple[str, int]:
    """Split a message id into batch and index. Raises InvalidMessage."""
    batch, _, index = text.rpartition("-")
    if not is_ulid(batch) or not (index.isascii() and index.isdigit()):
        raise InvalidMessage("invalid_id", f"{text!r} is not a message id (<batch>-<index>)")
    return batch, int(index)
