"""What HTTP answers mean where a provider says nothing more exact; shared by all HTTP providers."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from dispatcher.errors import (
    ContentRejected,
    Permanent,
    ProviderDown,
    SendError,
    Throttled,
    Transient,
    Unsent,
)
from dispatcher.exchange import HttpAnswer

DETAIL_CHARACTERS = 200


def retry_after(answer: HttpAnswer) -> float | None:
    """Seconds of a Retry-After header; None without one. Dates are rare here and read as none."""
    text = answer.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() else None


def reset_after(answer: HttpAnswer) -> float | None:
    """Seconds until X-RateLimit-Reset (seconds since 1970), counted from the Date of the answer so
    that no clock of ours plays a part; None where either is missing. At least 1: both are whole
    seconds."""
    reset = answer.headers.get("x-ratelimit-reset", "").strip()
    try:
        date = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return None
    if not (reset.isascii() and reset.isdigit()):
        return None
    return max(1.0, int(reset) - date.timestamp())


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; empty for anything else."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def detail(text: object) -> str:
    """A provider's own words, on one line and bounded."""
    return " ".join(str(text).split())[:DETAIL_CHARACTERS]


def by_status(answer: HttpAnswer, code: str = "", text: object = "") -> SendError:
    """Classify by HTTP status alone: 429 throttled, 401, 403 and redirects provider down, 408 and
    5xx transient, any other permanent."""
    code, words = code or str(answer.status), detail(text)
    if answer.status == 429:
        return Throttled(code, words, retry_after(answer))
    if answer.status in (401, 403) or 300 <= answer.status < 400:
        return ProviderDown(code, words)
    if answer.status >= 500 or answer.status == 408:
        return Transient(code, words, retry_after(answer))
    return Permanent(code, words)


def too_large(answer: HttpAnswer, count: int) -> SendError:
    """What a request of `count` messages that is too large means for each: several may pass in
    smaller requests, one never will."""
    if count > 1:
        return Unsent(str(answer.status), f"{count} messages are too large for one request")
    return ContentRejected(str(answer.status), "too large for the provider")
