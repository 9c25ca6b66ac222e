"""Provider kind `sendgrid`: e-mail through v3 mail/send, up to 1,000 messages a request.

A request carries the texts once and a personalization per message with its parameters, either as
substitutions of tags in our texts or as data of one of SendGrid's own dynamic templates.

Facts: sendgrid-oai spec/paths/mail_send/mail_send.json (request, limits, answers; no idempotency
key); twilio.com/docs/sendgrid/api-reference/mail-send/errors (fields that errors name).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Annotated, Any, NamedTuple

import msgspec

from dispatcher.config import PROVIDER_KEYS
from dispatcher.convert import convert
from dispatcher.errors import (
    ContentRejected,
    InvalidMessage,
    InvalidRecipient,
    OutcomeUnknown,
    ProviderDown,
    SendError,
    Throttled,
    Unsent,
)
from dispatcher.exchange import Accepted, HttpAnswer, HttpRequest, Outgoing
from dispatcher.messages import Content, Envelope
from dispatcher.providers.answers import (
    by_status,
    detail,
    json_object,
    reset_after,
    retry_after,
    too_large,
)
from dispatcher.settings import ProviderConfig
from dispatcher.template import Template
from dispatcher.toml import Secret

API = "https://api.sendgrid.com"
MOST = 1000
"""Personalizations in one request."""
CONTENT_BYTES = 8_000_000
"""Of subject, text and html together: leaves room for 1,000 personalizations below 30 MB."""
SUBSTITUTIONS = 100
"""Tags one message may fill."""
RESERVED_HEADERS = frozenset(
    {
        "x-sg-id",
        "x-sg-eid",
        "received",
        "dkim-signature",
        "content-type",
        "content-transfer-encoding",
        "to",
        "from",
        "subject",
        "reply-to",
        "cc",
        "bcc",
    }
)

_ADDRESS = re.compile(r'\s*"?(?P<name>[^<>]*?)"?\s*<(?P<email>[^<>]+)>\s*')
_TEMPLATE = re.compile(r"d-[0-9a-f]{32}")
_BREAKS = re.compile(r"[\r\n]+")
_FIELD = re.compile(r"personalizations\.([0-9]+)(?:\.(\w+))?")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of this kind. `batch` is the most messages in one request."""

    api_key: Secret
    batch: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = MOST


class SendGrid:
    """One account. SendGrid knows no idempotency key: what was sent twice arrives twice."""

    channels = frozenset({"email"})
    idempotent = False
    text_characters = None

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        settings = convert(config.settings, Settings, f"providers.{name}", also=PROVIDER_KEYS)
        self.batch = settings.batch
        self._url = f"{(config.base_url or API).rstrip('/')}/v3/mail/send"
        self._timeout = float(config.timeout)
        self._headers = {
            "Authorization": f"Bearer {settings.api_key.reveal()}",
            "Content-Type": "application/json",
        }

    def check(self, channel: str, content: Content) -> None:
        """Text and html with a subject, or a dynamic template; no attachments."""
        if content.media:
            raise _unsupported("sendgrid carries no media")
        for header in content.headers:
            if header.lower() in RESERVED_HEADERS:
                raise _unsupported(f"sendgrid sets the header {header} itself")
        if content.template is not None:
            _check_template(content)
        else:
            _check_texts(content)

    def compose(self, envelope: Envelope) -> Callable[[Outgoing], HttpRequest]:
        """A request of one message."""
        request = self.compose_batch(envelope)
        return lambda message: request((message,))

    def read(self, answer: HttpAnswer) -> Accepted | SendError:
        """The verdict of a request of one message."""
        return self.read_batch(answer, 1)[0]

    def compose_batch(self, envelope: Envelope) -> Callable[[Sequence[Outgoing]], HttpRequest]:
        """One personalization per message. Its `from` is given where it is not that of the first;
        SendGrid wants all of them in one domain.

        Raises InvalidMessage ("missing_parameter"), as does the result."""
        shared, fill = _prepare(envelope)
        encode = msgspec.json.encode

        def request(messages: Sequence[Outgoing]) -> HttpRequest:
            sender = messages[0].sender
            personalizations = [
                _Personalization(
                    (_Address(message.to),),
                    _Arguments(message.id, message.ref),
                    *fill(message.values),
                    None if message.sender == sender else _address(message.sender),
                )
                for message in messages
            ]
            body = {"personalizations": personalizations, "from": _address(sender), **shared}
            return HttpRequest("POST", self._url, self._headers, encode(body), self._timeout)

        return request

    def read_batch(self, answer: HttpAnswer, count: int) -> Sequence[Accepted | SendError]:
        """202 is accepted. A refusal that names messages is theirs alone: SendGrid has then sent
        none of the request, and the others may go out again without them."""
        if answer.status == 400:
            return _refusals(answer, count)
        return [_verdict(answer, count)] * count


class _Address(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    email: str
    name: str | None = None


class _Arguments(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What comes back with every event of a message."""

    message_id: str
    ref: str | None = None


class _Personalization(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    to: tuple[_Address]
    custom_args: _Arguments
    substitutions: Mapping[str, str] | None = None
    dynamic_template_data: Mapping[str, str] | None = None
    from_: _Address | None = msgspec.field(default=None, name="from")


class _Tag(NamedTuple):
    """What stands in a text in the place of a parameter: the name and the column of that, and what
    makes its values fit for the text."""

    tag: str
    name: str
    column: int
    write: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that is sent once, with a tag in the place of every parameter."""

    tagged: str
    tags: Sequence[_Tag]

    @classmethod
    def prepare(
        cls, source: str, columns: Sequence[str], mark: str, write: Callable[[str], str]
    ) -> _Text:
        """`mark` makes the tags of a text unlike all others, and must occur in no value: SendGrid
        looks for tags in what it has put in, too."""
        template = Template.compile(source)
        for name in template.names:
            if name not in columns:
                raise _missing(name)
        tags = [
            _Tag(f"-{mark}{number}-", name, columns.index(name), write)
            for number, name in enumerate(template.names)
        ]
        return cls(template.bind(template.names)([tag.tag for tag in tags]), tags)


_Values = Sequence[str | None]
_Filled = tuple[Mapping[str, str] | None, Mapping[str, str] | None]
_Fill = Callable[[_Values], _Filled]
"""Substitutions and template data of one message."""


def _prepare(envelope: Envelope) -> tuple[dict[str, Any], _Fill]:
    """What all messages share, and what makes the rest of a personalization."""
    content = envelope.content
    shared: dict[str, Any] = {}
    if content.reply_to:
        shared["reply_to"] = _address(content.reply_to)
    if content.headers:
        shared["headers"] = content.headers
    if content.template is not None:
        shared["template_id"] = content.template
        return shared, _data(envelope.columns)
    texts = _texts(envelope)
    shared["subject"] = texts["subject"].tagged
    shared["content"] = [
        {"type": kind, "value": text.tagged} for kind, text in texts.items() if kind != "subject"
    ]
    return shared, _substitutions([tag for text in texts.values() for tag in text.tags])


def _texts(envelope: Envelope) -> dict[str, _Text]:
    """Subject and contents; SendGrid wants text/plain before text/html."""
    content, columns = envelope.content, envelope.columns
    mark = envelope.batch[-10:]  # random, so that no value can have it
    texts = {"subject": _Text.prepare(content.subject or "", columns, f"{mark}s", _one_line)}
    if content.text:
        texts["text/plain"] = _Text.prepare(content.text, columns, f"{mark}t", str)
    if content.html:
        texts["text/html"] = _Text.prepare(content.html, columns, f"{mark}h", escape)
    return texts


def _substitutions(tags: Sequence[_Tag]) -> _Fill:
    places = [(tag.tag, tag.column, tag.write) for tag in tags]

    def fill(values: _Values) -> _Filled:
        if None in values:
            for tag in tags:
                if values[tag.column] is None:
                    raise _missing(tag.name)
        found = {tag: write(values[column] or "") for tag, column, write in places}
        return found or None, None

    return fill


def _data(columns: Sequence[str]) -> _Fill:
    def fill(values: _Values) -> _Filled:
        pairs = zip(columns, values, strict=True)
        return None, {name: value for name, value in pairs if value is not None}

    return fill


def _address(text: str) -> _Address:
    """`a@b` or `Name <a@b>`."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return _Address(text.strip())
    return _Address(found["email"].strip(), found["name"] or None)


def _one_line(value: str) -> str:
    return _BREAKS.sub(" ", value)


def _check_template(content: Content) -> None:
    if not _TEMPLATE.fullmatch(content.template or ""):
        raise _unsupported(
            f'template must be the id of a dynamic template, "d-" and 32 digits of 0-9a-f, '
            f"got {content.template!r}"
        )
    if content.text or content.html or content.subject:
        raise _unsupported("a dynamic template brings its own subject, text and html")
    if content.language:
        raise _unsupported("dynamic templates have no language")


def _check_texts(content: Content) -> None:
    texts = [text for text in (content.text, content.html) if text]
    if not texts:
        raise InvalidMessage("missing_content", "an e-mail needs a text, html or both")
    if not content.subject:
        raise InvalidMessage("missing_subject", "an e-mail needs a subject")
    texts.append(content.subject)
    if sum(len(text.encode()) for text in texts) > CONTENT_BYTES:
        raise InvalidMessage("text_too_long", f"an e-mail has at most {CONTENT_BYTES} bytes")
    if sum(len(Template.compile(text).names) for text in texts) > SUBSTITUTIONS:
        raise InvalidMessage(
            "too_many_parameters",
            f"subject, text and html may have {SUBSTITUTIONS} parameters together",
        )


def _unsupported(reason: str) -> InvalidMessage:
    return InvalidMessage("unsupported_content", reason)


def _missing(name: str) -> InvalidMessage:
    return InvalidMessage("missing_parameter", f'parameter "{name}" has no value')


def _verdict(answer: HttpAnswer, count: int) -> Accepted | SendError:
    """The verdict that holds for every message of a request."""
    status = answer.status
    if status == 202:
        return Accepted(answer.headers.get("x-message-id") or None)
    if 200 <= status < 300:
        return OutcomeUnknown("garbage", f"a {status} answer that is not SendGrid's")
    words = "; ".join(_words(error) for error in _errors(answer))
    if status == 404:
        return ProviderDown("404", "no such address: base_url")
    if status == 413:
        return too_large(answer, count)
    if status == 429:
        wait = retry_after(answer)
        return Throttled("429", detail(words), reset_after(answer) if wait is None else wait)
    return by_status(answer, "", words)


def _refusals(answer: HttpAnswer, count: int) -> Sequence[SendError]:
    """The verdicts of a 400 answer, by the field each of its errors names."""
    named: dict[int, SendError] = {}
    common: SendError | None = None
    for error in _errors(answer):
        found = _FIELD.match(str(error.get("field")))
        if found and int(found[1]) < count:
            kind = InvalidRecipient if found[2] == "to" else ContentRejected
            named.setdefault(int(found[1]), kind("400", detail(_words(error))))
        else:
            common = common or ContentRejected("400", detail(_words(error)))
    if common is None and named:
        common = Unsent("400", "another message of the same request was refused")
    others = common or ContentRejected("400")
    return [named.get(index, others) for index in range(count)]


def _errors(answer: HttpAnswer) -> list[dict[str, Any]]:
    errors = json_object(answer.body).get("errors")
    return [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []


def _words(error: Mapping[str, Any]) -> str:
    field, message = error.get("field"), error.get("message") or ""
    return f"{field}: {message}" if field else str(message)
