"""What `to` may look like on each channel, and which recipients a staging system may reach."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dispatcher.errors import InvalidMessage

PHONE_CHANNELS = frozenset({"sms", "mms", "rcs", "voice", "whatsapp"})
MAX_ADDRESS = 254
"""Characters of an e-mail address: RFC 5321 section 4.5.3.1.3, 256 with its angle brackets."""
MAX_LOCAL = 64
"""Characters before the @: RFC 5321 section 4.5.3.1.1."""
MAX_TOKEN = 4096
"""Characters of a push token or messenger id."""

_NUMBER = re.compile(r"\+[0-9]{7,15}")
_SEPARATORS = str.maketrans("", "", " -()")
_LABEL = re.compile(r"[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?")
_NOT_IN_LOCAL = frozenset('()<>[]\\,;:"')
_SHOWN = 40


def normalise(channel: str, to: str) -> str:
    """The form of `to` under which a recipient is known on `channel`.

    Phones (SMS, MMS, RCS, voice, WhatsApp) become `+` and 7 to 15 digits; spaces, `-`, `(` and
    `)` are removed. E-mail addresses get a lower-case domain. Push tokens and messenger ids stay
    as they are. Raises InvalidMessage ("invalid_recipient") saying what is wrong.
    """
    if channel in PHONE_CHANNELS:
        return to if _NUMBER.fullmatch(to) else _phone(to)
    if not to:
        raise _invalid(to, "is empty")
    return _address(to) if channel == "email" else _token(to)


def _phone(to: str) -> str:
    number = to.translate(_SEPARATORS)
    if not _NUMBER.fullmatch(number):
        raise _invalid(to, f"{_phone_fault(number)}; allowed is + and 7 to 15 digits")
    return number


def _phone_fault(number: str) -> str:
    if not number:
        return "is empty"
    digits = number.removeprefix("+")
    for character in digits:
        if character not in "0123456789":
            return f"contains {character!r}"
    if digits == number:
        return "has no leading +"
    return f"is too {'short' if len(digits) < 7 else 'long'} ({len(digits)} digits)"


def _address(to: str) -> str:
    _refuse_blanks(to)
    if len(to) > MAX_ADDRESS:
        raise _invalid(to, f"is too long ({len(to)} characters; at most {MAX_ADDRESS})")
    local, at, domain = to.partition("@")
    if not at or "@" in domain:
        raise _invalid(to, f"has {to.count('@')} @ signs; an address has one")
    if fault := _local_fault(local) or _domain_fault(domain):
        raise _invalid(to, fault)
    return to if domain.islower() else f"{local}@{domain.lower()}"


def _local_fault(local: str) -> str:
    if not local:
        return "has nothing before the @"
    if len(local) > MAX_LOCAL:
        return f"has {len(local)} characters before the @; at most {MAX_LOCAL} are allowed"
    if "" in local.split("."):
        return "has a dot at an end or two in a row before the @"
    for character in local:
        if character in _NOT_IN_LOCAL:
            return f"contains {character!r} before the @"
    return ""


def _domain_fault(domain: str) -> str:
    if "." not in domain:
        return "has no dot after the @"
    if not all(map(_LABEL.fullmatch, domain.split("."))):
        return "has no valid domain after the @"
    return ""


def _token(to: str) -> str:
    _refuse_blanks(to)
    if len(to) > MAX_TOKEN:
        raise _invalid(to, f"is too long ({len(to)} characters; at most {MAX_TOKEN})")
    return to


def _refuse_blanks(to: str) -> None:
    if to.isprintable() and " " not in to:
        return
    place = next(n for n, char in enumerate(to) if char == " " or not char.isprintable())
    raise _invalid(
        to, f"contains a space or control character ({to[place]!r} at character {place + 1})"
    )


def _invalid(to: str, fault: str) -> InvalidMessage:
    shown = to if len(to) <= _SHOWN else to[:_SHOWN] + "..."
    return InvalidMessage("invalid_recipient", f"to: {shown!r} {fault}")


class Allow:
    """`[safety] allow`: the recipients a system may send to. In a pattern `*` stands for any
    characters and everything else for itself; without patterns everybody is allowed."""

    def __init__(self, patterns: Sequence[str]) -> None:
        alternatives = (".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns)
        self._any_of = re.compile("|".join(alternatives), re.DOTALL) if patterns else None

    @property
    def everybody(self) -> bool:
        """There is no pattern."""
        return self._any_of is None

    def permits(self, to: str) -> bool:
        """Whether the normalised recipient `to` may be sent to."""
        return self._any_of is None or self._any_of.fullmatch(to) is not None
