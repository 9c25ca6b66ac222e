"""The bodies of the HTTP API, for its server and for its clients.

What comes in refuses unknown fields; what goes out may grow, so readers ignore what they do not
know. Times are RFC 3339 with an offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from dispatcher.settings import Channel, Class

RECIPIENTS_MOST = 10_000
BODY_BYTES = 8 * 1024 * 1024
MSGPACK = "application/msgpack"
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

Text = Annotated[str, Meta(min_length=1)]
Index = Annotated[int, Meta(ge=0, le=2**40)]
BatchId = Annotated[
    str, Meta(pattern="^[0-7][0-9A-HJKMNP-TV-Z]{25}$", description="The ULID of a batch")
]
Parameter: TypeAlias = str | int | float | bool | None
StatusWord = Literal[
    "queued", "scheduled", "unknown", "sent", "undelivered", "delivered", "read", "dead",
    "expired", "cancelled", "suppressed",
]  # fmt: skip


class TemplateName(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A template kept by the provider."""

    name: Text
    language: str | None = None


class NewContent(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is said: exactly one of `text` (with `{parameters}`) and `template`."""

    text: str | None = None
    template: TemplateName | None = None
    subject: str | None = None
    html: str | None = None
    media: tuple[str, ...] = ()
    reply_to: str | None = None
    headers: dict[str, str] = {}


class NewRecipient(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One recipient. `params` fill the text; `ref` is yours and comes back; `carrier` where you
    know better than the number does."""

    to: str
    params: dict[str, Parameter] = {}
    ref: str | None = None
    carrier: str | None = None


class NewMessages(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """One submit call. `ttl` is a duration such as "2h", `send_at` a time; `batch` appends to a
    batch of yours; `first` is the index of the first recipient, and a call with the same `batch`
    and `first` is the same call."""

    channel: Channel
    from_: Text = field(name="from")
    content: NewContent
    recipients: Annotated[Sequence[NewRecipient], Meta(min_length=1, max_length=RECIPIENTS_MOST)]
    class_: Class = field(default="normal", name="class")
    ttl: str | None = None
    send_at: str | None = None
    campaign: str | None = None
    batch: BatchId | None = None
    first: Index = 0


class RejectedRecipient(Struct, frozen=True):
    """A recipient that was refused; the others are not concerned."""

    index: int
    code: str
    detail: str


class Receipt(Struct, frozen=True):
    """What was accepted: `messages` has the id of every recipient in order, null for a refused
    one."""

    batch: str
    accepted: int
    rejected: list[RejectedRecipient]
    messages: list[str | None]


class BatchCounts(Struct, frozen=True):
    """One batch. The counts per status add up to `total`; `retried` and `deferred` count events;
    `codes` says why messages died or were suppressed."""

    batch: str
    tenant: str
    channel: str
    created_at: datetime
    total: int
    queued: int
    scheduled: int
    unknown: int
    sent: int
    undelivered: int
    delivered: int
    read: int
    dead: int
    expired: int
    cancelled: int
    suppressed: int
    retried: int
    deferred: int
    codes: Mapping[str, int]


class MessageAttempt(Struct, frozen=True):
    """One send that reached a provider, or a deferral; `code` is what it ended with. `replayed` and
    `resolved` are no sends: somebody had it sent again, or told what had become of it; `by` is who
    (`receipt`, or an operator: tenants do not see which)."""

    at: datetime
    provider: str
    code: str
    by: str | None = None


class MessageError(Struct, frozen=True):
    """Why the last attempt ended as it did."""

    code: str
    detail: str | None = None


class MessageStory(Struct, frozen=True):
    """One message. What is not known before its first attempt is missing until then.
    `waiting_for` is what holds it back while it is queued or scheduled ("limit carrier:de-telekom",
    "suspended: …", "scheduled until …"); null when nothing does. Before its first attempt it is
    what holds back the lanes of its batch."""

    id: str
    status: StatusWord
    channel: str
    tenant: str
    created_at: datetime
    updated_at: datetime | None = None
    ref: str | None = None
    to: str | None = None
    provider: str | None = None
    carrier: str | None = None
    provider_id: str | None = None
    error: MessageError | None = None
    due_at: datetime | None = None
    waiting_for: str | None = None
    attempts: Sequence[MessageAttempt] = ()
    attempts_used: int = 0


class Health(Struct, frozen=True, omit_defaults=True):
    """The process is well. `store` "full": nothing new is taken for now, the rest works; `cells`
    says which part of a cluster takes no writes, and why: what waits there waits."""

    status: Literal["ok", "ready"]
    store: Literal["ok", "full"] = "ok"
    cells: dict[str, str] = {}


class ProblemBody(Struct, frozen=True, omit_defaults=True):
    """What went wrong (RFC 9457). `code` is one word for programs; `rejected` lists the recipients
    where none was accepted."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    rejected: Sequence[RejectedRecipient] = ()
