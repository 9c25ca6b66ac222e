"""What the code of a provider gives us, checked: a fault in it ends messages, never a worker."""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher.errors import SendError, kept_words
from dispatcher.exchange import Accepted, HttpRequest

Verdict = Accepted | SendError
ID_CHARACTERS = 500
"""What is kept of a provider's id."""


def checked_request(given: object) -> HttpRequest:
    """Raises TypeError for what no transport can write."""
    if not isinstance(given, HttpRequest):
        raise TypeError(f"no HttpRequest but {given!r:.200}")
    if not isinstance(given.body, bytes):
        raise TypeError(f"the body is no bytes but {type(given.body).__name__}")
    if not isinstance(given.timeout, (int, float)):
        raise TypeError(f"timeout is no number of seconds but {given.timeout!r:.200}")
    return given


def checked_verdicts(given: Sequence[object], count: int) -> Sequence[Verdict]:
    """Raises TypeError for what does not say of `count` messages what has become of each."""
    if len(given) != count:
        raise TypeError(f"{len(given)} verdicts of {count} messages")
    return [_checked_verdict(one) for one in given]


def _checked_verdict(given: object) -> Verdict:
    if isinstance(given, Accepted):
        own = given.provider_id
        plain = own is None or (
            isinstance(own, str) and own.isascii() and len(own) <= ID_CHARACTERS
        )
        return given if plain else Accepted(kept_words(own, ID_CHARACTERS))
    if isinstance(given, SendError):
        return given
    raise TypeError(f"neither Accepted nor SendError but {given!r:.200}")
