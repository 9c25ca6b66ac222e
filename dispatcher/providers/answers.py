"""What HTTP answers mean where a provider says nothing more exact; shared by all HTTP providers."""

from __future__ import annotations

from typing import Any

import msgspec

from dispatcher.errors import Permanent, ProviderDown, SendError, Throttled, Transient
from dispatcher.exchange import HttpAnswer

DETAIL_CHARACTERS = 200


def retry_after(answer: HttpAnswer) -> float | None:
    """Seconds of a Retry-After header; None without one. Dates are rare here and read as none."""
    text = answer.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() else None


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
