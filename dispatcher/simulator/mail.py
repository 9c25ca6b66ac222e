"""What a mail/send request may look like: its parts, and every fault that SendGrid would name.

Sources: sendgrid-oai spec/paths/mail_send/mail_send.json;
twilio.com/docs/sendgrid/api-reference/mail-send/errors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

MAX_PERSONALIZATIONS = 1000
MAX_RECIPIENTS = 1000
"""To, cc and bcc of all personalizations."""
MAX_SUBSTITUTION_BYTES = 10_000
"""Tags and values of one personalization."""
MAX_SUBSTITUTIONS = 100
MAX_CUSTOM_ARGS_BYTES = 10_000
MAX_ADDRESS = 320

_EMAIL = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?",
    re.IGNORECASE | re.ASCII,
)
_RESERVED_HEADERS = frozenset(
    {
        "bcc",
        "cc",
        "content-transfer-encoding",
        "content-type",
        "dkim-signature",
        "from",
        "received",
        "reply-to",
        "subject",
        "to",
        "x-sg-eid",
        "x-sg-id",
    }
)


class Fault(NamedTuple):
    """One error: the field it is in, None for the request as a whole."""

    field: str | None
    message: str


class Address(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An e-mail address with or without a name."""

    email: str
    name: str = ""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One alternative of the content."""

    type: str
    value: str


class Personalization(msgspec.Struct, frozen=True, kw_only=True):
    """One e-mail of a request."""

    to: list[Address]
    cc: list[Address] = []
    bcc: list[Address] = []
    sender: Address | None = msgspec.field(default=None, name="from")
    subject: str | None = None
    headers: dict[str, str] = {}
    substitutions: dict[str, str] = {}
    dynamic_template_data: dict[str, Any] = {}
    custom_args: dict[str, str] = {}
    send_at: int | None = None


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A request. Some of its fields are taken and not looked into."""

    personalizations: list[Personalization]
    sender: Address = msgspec.field(name="from")
    reply_to: Address | None = None
    reply_to_list: list[Address] = []
    subject: str = ""
    content: list[Part] = []
    template_id: str = ""
    headers: dict[str, str] = {}
    categories: list[str] = []
    custom_args: dict[str, str] = {}
    send_at: int | None = None
    attachments: list[dict[str, str]] = []
    batch_id: str = ""
    asm: dict[str, Any] = {}
    ip_pool_name: str = ""
    mail_settings: dict[str, Any] = {}
    tracking_settings: dict[str, Any] = {}


_FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Mail)}
_INNER = {field.encode_name: field for field in msgspec.structs.fields(Personalization)}


def check_shape(document: object) -> list[Fault]:
    """Fields that are missing, unknown or of a wrong type, each by its path."""
    if not isinstance(document, dict):
        return [Fault(None, "Bad Request")]
    faults = list(_check_fields(document, _FIELDS, "", skip="personalizations"))
    people = document.get("personalizations")
    if not isinstance(people, list) or not people:
        needed = "The personalizations field is required and must have at least one personalization"
        return [*faults, Fault("personalizations", needed)]
    for number, one in enumerate(people):
        where = f"personalizations.{number}"
        if isinstance(one, dict):
            faults += _check_fields(one, _INNER, f"{where}.")
        else:
            faults.append(Fault(where, "Invalid type. Expected: object."))
    return faults


def _check_fields(
    document: Mapping[str, Any],
    known: Mapping[str, msgspec.structs.FieldInfo],
    where: str,
    skip: str = "",
) -> Iterator[Fault]:
    for name in document.keys() - known.keys():
        yield Fault(f"{where}{name}", "Additional property is not allowed")
    for name, field in known.items():
        if name == skip:
            continue
        if name not in document:
            if field.required:
                yield Fault(f"{where}{name}", f"The {name} is required")
            continue
        try:
            msgspec.convert(document[name], field.type)
        except msgspec.ValidationError as error:
            yield Fault(f"{where}{name}", f"Invalid type. {error}")


def check_mail(mail: Mail, rejects: Sequence[str]) -> list[Fault]:
    """What else is wrong. Recipients that start with one of `rejects` have no valid address."""
    faults = [*_check_sender(mail), *_check_content(mail)]
    people = mail.personalizations
    if len(people) > MAX_PERSONALIZATIONS:
        most = f"limited to {MAX_PERSONALIZATIONS} personalizations per API request"
        faults.append(Fault("personalizations", f"The personalization block is {most}"))
    if sum(len(one.to) + len(one.cc) + len(one.bcc) for one in people) > MAX_RECIPIENTS:
        most = f"There is a limit of {MAX_RECIPIENTS} total recipients (to + cc + bcc) per request"
        faults.append(Fault("personalizations", most))
    for number, one in enumerate(people):
        where = f"personalizations.{number}"
        faults += _check_recipients(one, where, tuple(rejects))
        faults += _check_personalization(mail, one, where)
    return faults


def _check_sender(mail: Mail) -> Iterator[Fault]:
    yield from _check_address(mail.sender, "from")
    if not mail.sender.name.isascii():
        yield Fault("from.name", "Unicode encoding is not supported for the from field")
    if mail.reply_to is not None:
        yield from _check_address(mail.reply_to, "reply_to")
    yield from _check_headers(mail.headers, "headers")


def _check_content(mail: Mail) -> Iterator[Fault]:
    subjects = [one.subject for one in mail.personalizations]
    if not mail.template_id and not mail.subject and not all(subjects):
        yield Fault("subject", "The subject is required.")
    if not mail.template_id and not mail.content:
        yield Fault("content", "Unless a valid template_id is provided, the content is required.")
    for number, part in enumerate(mail.content):
        if not part.value:
            message = "The content value must be a string at least one character in length."
            yield Fault(f"content.{number}.value", message)
    types = [part.type for part in mail.content]
    usual = [kind for kind in ("text/plain", "text/html") if kind in types]
    if types[: len(usual)] != usual or len(set(types)) < len(types):
        order = "text/plain must be first, followed by text/html, followed by any other content"
        yield Fault("content", f"If present, {order}, each once.")


def _check_recipients(
    one: Personalization, where: str, rejects: tuple[str, ...]
) -> Iterator[Fault]:
    if not one.to:
        yield Fault(f"{where}.to", "The to array must have at least one valid email address.")
    for kind, addresses in (("to", one.to), ("cc", one.cc), ("bcc", one.bcc)):
        for number, address in enumerate(addresses):
            place = f"{where}.{kind}.{number}"
            yield from _check_address(address, place)
            if address.email.startswith(rejects):
                yield Fault(f"{place}.email", "Does not contain a valid address.")
    seen = Counter(address.email.lower() for address in (*one.to, *one.cc, *one.bcc))
    if seen and max(seen.values()) > 1:
        unique = "should be unique between to, cc, and bcc"
        yield Fault(where, f"Each email address in the personalization block {unique}.")


def _check_personalization(mail: Mail, one: Personalization, where: str) -> Iterator[Fault]:
    if one.sender is not None:
        yield from _check_address(one.sender, f"{where}.from")
        if _domain(one.sender) != _domain(mail.sender):
            yield Fault(f"{where}.from", "The from domain must match that of the message.")
    yield from _check_headers(one.headers, f"{where}.headers")
    if _size(one.custom_args) + _size(mail.custom_args) >= MAX_CUSTOM_ARGS_BYTES:
        most = f"must be less than {MAX_CUSTOM_ARGS_BYTES} bytes"
        yield Fault(f"{where}.custom_args", f"Custom arguments {most}.")
    if _size(one.substitutions) > MAX_SUBSTITUTION_BYTES:
        most = f"are limited to {MAX_SUBSTITUTION_BYTES} bytes per personalization block"
        yield Fault(f"{where}.substitutions", f"Substitutions {most}.")
    if len(one.substitutions) > MAX_SUBSTITUTIONS:
        most = f"are limited to {MAX_SUBSTITUTIONS} per personalization block"
        yield Fault(f"{where}.substitutions", f"Substitutions {most}.")
    if one.substitutions and mail.template_id.startswith("d-"):
        message = "Substitutions may not be used with dynamic templating"
        yield Fault(f"{where}.substitutions", message)


def _check_address(address: Address, where: str) -> Iterator[Fault]:
    if len(address.email) > MAX_ADDRESS or not _EMAIL.fullmatch(address.email):
        yield Fault(f"{where}.email", "Does not contain a valid address.")
    if ";" in address.name or "," in address.name:
        yield Fault(f"{where}.name", "The name may not contain ; or ,")


def _check_headers(headers: Mapping[str, str], where: str) -> Iterator[Fault]:
    for name in headers:
        if name.lower() in _RESERVED_HEADERS:
            yield Fault(where, f"The header {name} is reserved.")
        elif not name.isascii() or not name or any(char in name for char in " :\r\n"):
            yield Fault(where, f"The header {name!r} is not valid.")


def _domain(address: Address) -> str:
    return address.email.rpartition("@")[2].lower()


def _size(pairs: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(value.encode()) for name, value in pairs.items())
