"""A fake of SendGrid's v3 mail/send.

Facts: sendgrid-oai spec/paths/mail_send/mail_send.json (fields, limits);
twilio.com/docs/sendgrid/api-reference/mail-send/errors (fields and messages of errors);
github.com/sendgrid/sendgrid-go/issues/105 (no rate limit headers but with 429).
"""

from __future__ import annotations

import hmac
import math
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from typing import Any, ClassVar, NamedTuple

import msgspec

from dispatcher.simulator.mail import Address, Fault, Mail, Personalization, check_mail, check_shape
from dispatcher.simulator.provider import (
    AccountSettings,
    Outcome,
    Provider,
    Refused,
    Submission,
    new_id,
)
from dispatcher.simulator.wire import Reply, Request

MAX_BYTES = 30_000_000
"""A request is smaller than this."""

_DETAILS = {
    400: "Bad Request",
    401: "The provided authorization grant is invalid, expired, or revoked",
    403: "access forbidden",
    404: "not found",
    405: "method not allowed",
    413: "The request payload is too large",
    415: "Content-Type should be application/json",
    429: "too many requests",
    500: "an unexpected error occurred",
    503: "the service is not available",
}
_PLACE = re.compile(r"personalizations\.(\d+)(?:\.(to|cc|bcc)\.(\d+))?")
"""Where the fields of one e-mail stand, and which of its addresses."""
_HELP = "https://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html"


class SendGridAccount(AccountSettings, frozen=True, kw_only=True, tag="sendgrid"):
    """The account at `/v3/mail/send`; there is one on a port, and its label is `sendgrid/demo`.

    Recipients that start with one of `rejects` have no valid address here. `window_requests` are
    allowed in every `window` (seconds), besides `rate`. `max_bytes` is the size that a request
    must stay below.
    """

    api_key: str = "SG." + "0" * 32
    rejects: tuple[str, ...] = ()
    window_requests: int | None = None
    window: float = 60.0
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.api_key:
            raise ValueError("api_key is empty")
        if self.window <= 0 or (self.window_requests is not None and self.window_requests < 1):
            raise ValueError("window is above 0 seconds, window_requests is 1 or more")

    @property
    def name(self) -> str:
        return "demo"

    def build(self) -> Provider[Any]:
        return SendGrid(self)


class Invalid(Refused):
    """A refusal that names fields, and the messages they are in."""

    def __init__(self, faults: Sequence[Fault], about: Sequence[Submission] = ()) -> None:
        super().__init__(400, "400", faults[0].message, about=about)
        self.faults = faults


class Limited(Refused):
    """A refusal of a client above its limit, of so many messages or requests."""

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(429, "429", _DETAILS[429], retry_after)
        self.limit = limit


class _Window(NamedTuple):
    """Requests of one window; times are seconds since 1970."""

    ends: float = 0.0
    used: int = 0


class SendGrid(Provider[SendGridAccount]):
    """`POST /v3/mail/send`.

    The text of a message in the journal is its subject, text and html after substitution, joined
    by line feeds; with a template its id and the data as JSON with sorted keys.
    """

    kind: ClassVar[str] = "sendgrid"
    prefix: ClassVar[str] = "/v3/"

    def configure(self, settings: SendGridAccount) -> None:
        super().configure(settings)
        self._window = _Window()

    @property
    def path(self) -> str:
        return "/v3/mail/send"

    def authenticate(self, request: Request) -> None:
        scheme, _, given = request.header(b"authorization").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.settings.api_key.encode())
        if scheme.lower() != "bearer" or not same:
            raise refuse(401)

    def read(self, request: Request) -> Sequence[Submission]:
        if request.method != "POST":
            raise refuse(405)
        self._count_request(time.time())
        if request.media_type != "application/json":
            raise refuse(415)
        if len(request.body) >= self.settings.max_bytes:
            raise refuse(413)
        mail = _read_mail(request.body)
        if faults := check_mail(mail, self.settings.rejects):
            raise Invalid(faults, _at_fault(mail, faults))
        return [_submission(mail, one, one.to[0].email) for one in mail.personalizations]

    def accept(
        self, submissions: Sequence[Submission], concurrency: int
    ) -> tuple[Reply, Sequence[Outcome]]:
        own = new_id("")
        headers = (*_date(), ("X-Message-Id", own))
        outcomes = [Outcome("accepted", f"{own}.{number}") for number in range(len(submissions))]
        return Reply(202, b"", headers, "text/plain; charset=utf-8"), outcomes

    def suspended(self) -> Refused:
        return refuse(403)

    def throttled(self, retry_after: float) -> Refused:
        return Limited(math.ceil(self.settings.rate or 1), retry_after)

    def ordered(self, status: int | None, code: str) -> Refused:
        """`code` is the field that the refusal names."""
        if not code or code.isdigit():
            return refuse(status or 400)
        refused = Invalid([Fault(code, "Does not contain a valid address.")])
        refused.status = status or 400
        return refused

    @classmethod
    def unknown(cls, request: Request) -> Refused:
        return refuse(404)

    @classmethod
    def refusal(cls, refused: Refused) -> Reply:
        headers = _date() + _limit_headers(refused)
        if refused.body is not None:
            return Reply(refused.status, refused.body.encode(), headers, "text/html")
        faults = refused.faults if isinstance(refused, Invalid) else [Fault(None, refused.detail)]
        errors = [{"message": one.message, "field": one.field, "help": _HELP} for one in faults]
        return Reply(refused.status, msgspec.json.encode({"errors": errors}), headers)

    def _count_request(self, now: float) -> None:
        most = self.settings.window_requests
        if most is None:
            return
        if now >= self._window.ends:
            self._window = _Window(now + self.settings.window)
        if self._window.used >= most:
            raise Limited(most, self._window.ends - now)
        self._window = self._window._replace(used=self._window.used + 1)


def refuse(status: int) -> Refused:
    """The refusal that goes with an HTTP status."""
    return Refused(status, str(status), _DETAILS.get(status, f"error {status}"))


def _read_mail(body: bytes) -> Mail:
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise refuse(400) from None
    if faults := check_shape(document):
        raise Invalid(faults)
    return msgspec.convert(document, Mail)


def _submission(mail: Mail, one: Personalization, to: str) -> Submission:
    sender = one.sender or mail.sender
    own = one.custom_args.get("message_id", "")
    return Submission(to, sender.email, _text(mail, one), message=own)


def _at_fault(mail: Mail, faults: Sequence[Fault]) -> Sequence[Submission]:
    """The e-mails that are named, once for every address that is. One whose addresses are good is
    there under its first."""
    places = filter(None, (_PLACE.match(fault.field or "") for fault in faults))
    named = {(int(one[1]), one[2] or "to", int(one[3] or 0)): None for one in places}
    return [_addressed(mail, *place) for place in named]


def _addressed(mail: Mail, number: int, kind: str, place: int) -> Submission:
    one = mail.personalizations[number]
    addresses: Sequence[Address] = getattr(one, kind)
    return _submission(mail, one, addresses[place].email if addresses else "")


def _text(mail: Mail, one: Personalization) -> str:
    if mail.template_id:
        data = msgspec.json.encode(one.dynamic_template_data, order="sorted")
        return f"{mail.template_id}\n{data.decode()}"
    texts = [one.subject or mail.subject, *(part.value for part in mail.content)]
    return "\n".join(_substitute(text, one.substitutions) for text in texts)


def _substitute(text: str, substitutions: Mapping[str, str]) -> str:
    """One tag after the other, also in what came of those before."""
    for tag, value in substitutions.items():
        text = text.replace(tag, value)
    return text


def _date() -> tuple[tuple[str, str], ...]:
    return (("Date", formatdate(usegmt=True)),)


def _limit_headers(refused: Refused) -> tuple[tuple[str, str], ...]:
    if refused.retry_after is None:
        return ()
    reset = math.ceil(time.time() + refused.retry_after)
    limit = (("X-Ratelimit-Limit", str(refused.limit)),) if isinstance(refused, Limited) else ()
    return (*limit, ("X-Ratelimit-Remaining", "0"), ("X-Ratelimit-Reset", str(reset)))
