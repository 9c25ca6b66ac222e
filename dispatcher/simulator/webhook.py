"""A receiver of the provider kind `webhook`: generic HTTP, single or in batches.

It keeps to the letter of the interface page, and de-duplicates on the message id as that page
asks of receivers.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from dispatcher.simulator.provider import (
    AccountSettings,
    Outcome,
    Provider,
    Refused,
    Submission,
    new_id,
    retry_after_header,
)
from dispatcher.simulator.wire import Reply, Request

_DETAILS = {
    "unauthorized": "the bearer token is missing or wrong",
    "suspended": "this account is suspended",
    "not_found": "there is no such receiver",
    "method_not_allowed": "messages are sent with POST",
    "media_type": "Content-Type must be application/json",
    "invalid": "the request is not valid",
    "no_key": "the Idempotency-Key header is missing",
    "wrong_key": "Idempotency-Key is not the message id",
    "key_reused": "this Idempotency-Key stood for other messages before",
    "rejected": "this recipient is refused here",
    "throttled": "too many messages",
    "unavailable": "out of order",
}
_STATUS_OF_CODE = {
    "unauthorized": 401,
    "suspended": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "media_type": 415,
    "key_reused": 422,
    "rejected": 422,
    "throttled": 429,
    "unavailable": 503,
}


class WebhookAccount(AccountSettings, frozen=True, kw_only=True, tag="webhook"):
    """A receiver at `/webhook/NAME`. With `token` set a request must carry it as bearer token.

    Recipients that start with one of `rejects` are refused for good (code `rejected`).
    """

    receiver: str = msgspec.field(default="demo", name="name")
    token: str | None = None
    rejects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.receiver or "/" in self.receiver:
            raise ValueError("name is not empty and has no /")

    @property
    def name(self) -> str:
        return self.receiver

    def build(self) -> Provider[Any]:
        return Webhook(self)


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message on the wire."""

    id: str
    channel: str
    sender: str = msgspec.field(name="from")
    to: str
    text: str
    subject: str | None = None
    ref: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("id", self.id), ("channel", self.channel), ("to", self.to)):
            if not value:
                raise ValueError(f"{name} is empty")


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many messages on the wire, each read on its own: a bad one spoils no other."""

    messages: list[msgspec.Raw]

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("messages is empty")


class _Shape(msgspec.Struct):
    """Just enough of a body to tell a batch from a single message."""

    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Webhook(Provider[WebhookAccount]):
    """`POST /webhook/{name}`."""

    kind: ClassVar[str] = "webhook"
    prefix: ClassVar[str] = "/webhook/"

    def __init__(self, settings: WebhookAccount) -> None:
        super().__init__(settings)
        self.forget()

    def forget(self) -> None:
        self._ids: dict[str, str] = {}
        self._batches: dict[str, int] = {}

    @property
    def path(self) -> str:
        return f"{self.prefix}{self.settings.name}"

    def authenticate(self, request: Request) -> None:
        token = self.settings.token
        if token is None:
            return
        scheme, _, given = request.header(b"authorization").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), token.encode())
        if scheme.lower() != "bearer" or not same:
            raise refuse("unauthorized")

    def read(self, request: Request) -> Sequence[Submission]:
        if request.method != "POST":
            raise refuse("method_not_allowed")
        if request.media_type != "application/json":
            raise refuse("media_type")
        key = request.header(b"idempotency-key").strip()
        if not key:
            raise refuse("no_key")
        if _is_batch(request.body):
            return self._read_batch(request.body, key)
        submission = self._read_message(request.body, key)
        if submission.refused:
            raise submission.refused
        if submission.message != key:
            raise refuse("wrong_key")
        return (submission,)

    def accept(
        self, submissions: Sequence[Submission], concurrency: int
    ) -> tuple[Reply, Sequence[Outcome]]:
        outcomes = [self._take(submission) for submission in submissions]
        if "batch" not in submissions[0].fields:
            return _reply(202, {"id": outcomes[0].id}), outcomes
        self._batches[submissions[0].key] = _fingerprint(submissions)
        results = [{"id": one.id} if one.id else {"error": one.code} for one in outcomes]
        return _reply(202, {"results": results}), outcomes

    def suspended(self) -> Refused:
        return refuse("suspended")

    def throttled(self, retry_after: float) -> Refused:
        refused = refuse("throttled")
        refused.retry_after = retry_after
        return refused

    def ordered(self, status: int | None, code: str) -> Refused:
        by_status = {known: name for name, known in _STATUS_OF_CODE.items()}
        default = "unavailable" if status and status >= 500 else "invalid"
        return refuse(code or by_status.get(status or 0, default), status=status)

    @classmethod
    def unknown(cls, request: Request) -> Refused:
        return refuse("not_found")

    @classmethod
    def refusal(cls, refused: Refused) -> Reply:
        headers = retry_after_header(refused)
        if refused.body is not None:
            return Reply(refused.status, refused.body.encode(), headers, "text/html")
        document = {"error": refused.code, "detail": refused.detail}
        return _reply(refused.status, document)._replace(headers=headers)

    def _read_batch(self, body: bytes, key: str) -> Sequence[Submission]:
        try:
            batch = msgspec.json.decode(body, type=Batch)
        except msgspec.ValidationError as error:
            raise refuse("invalid", str(error)) from None
        submissions = [
            self._read_message(raw, key)._replace(fields={"batch": "yes"}) for raw in batch.messages
        ]
        if self._batches.get(key, _fingerprint(submissions)) != _fingerprint(submissions):
            raise refuse("key_reused")
        return submissions

    def _read_message(self, raw: bytes | msgspec.Raw, key: str) -> Submission:
        try:
            message = msgspec.json.decode(raw, type=Message)
        except msgspec.DecodeError as error:
            return Submission("", "", "", key, refused=refuse("invalid", str(error)))
        rejected = message.to.startswith(self.settings.rejects)
        refused = refuse("rejected") if rejected else None
        return Submission(message.to, message.sender, message.text, key, message.id, refused)

    def _take(self, submission: Submission) -> Outcome:
        if submission.refused:
            return Outcome("refused", code=submission.refused.code)
        known = self._ids.get(submission.message)
        if known is not None:
            return Outcome("repeat", known)
        self._ids[submission.message] = own = new_id("WH")
        return Outcome("accepted", own)


def refuse(code: str, detail: str = "", status: int | None = None) -> Refused:
    """The refusal for one of the codes, by default with the status that goes with it."""
    status = status or _STATUS_OF_CODE.get(code, 400)
    return Refused(status, code, detail or _DETAILS.get(code, code))


def _reply(status: int, document: object) -> Reply:
    return Reply(status, msgspec.json.encode(document))


def _is_batch(body: bytes) -> bool:
    try:
        return msgspec.json.decode(body, type=_Shape).messages is not msgspec.UNSET
    except msgspec.DecodeError as error:
        raise refuse("invalid", str(error)) from None


def _fingerprint(submissions: Sequence[Submission]) -> int:
    return hash(tuple(submission.message for submission in submissions))
