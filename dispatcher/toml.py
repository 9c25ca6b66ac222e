"""Values as TOML, and secrets, which print as `***`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, time
from typing import ClassVar

MASK = "***"


class Secret:
    """A text that only `reveal` gives away; it prints as `***`."""

    __slots__ = ("_text",)
    expects: ClassVar[str] = f'"env:NAME", "file:/path" or a text other than "{MASK}"'

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def parse(cls, value: object) -> Secret:
        """A text as a secret; what `config show` printed is none. Raises ValueError without it."""
        secret = cls(value) if isinstance(value, str) else value
        if not isinstance(secret, Secret) or secret.reveal() in ("", MASK):
            raise ValueError(f"must be {cls.expects}")
        return secret

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def toml_value(value: object) -> str:
    """One value as TOML on one line, secrets as `***`."""
    match value:
        case Secret():
            return f'"{MASK}"'
        case bool() | int() | float():
            return repr(value).lower()
        case date() | time():
            return value.isoformat()
        case list() | tuple():
            return f"[{', '.join(toml_value(item) for item in value)}]"
        case Mapping():
            pairs = [f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items()]
            return f"{{{', '.join(pairs)}}}"
        case _:
            text = json.dumps(masked(str(value)), ensure_ascii=False)
            return re.sub(r"[^ -~]", _escaped, text)


def toml_key(key: str) -> str:
    """A key as it is written in TOML."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def masked(text: str) -> str:
    """The text without the password that a URL may carry."""
    text = re.sub(r"(://[^:@/]*):.*@", rf"\1:{MASK}@", text)
    return re.sub(r"([?&]password=)[^&]*", rf"\1{MASK}", text)


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    return char if char.isprintable() else f"\\U{ord(char):08x}"
