"""Parts of the content that options of `send` name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dispatcher.errors import UsageError


def html(path: str | None) -> str | None:
    """What the file of `--html` holds. Raises UsageError."""
    if path is None:
        return None
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--html {path} is not UTF-8") from None


def headers(given: Sequence[str]) -> dict[str, str]:
    """What `--header NAME:VALUE` said. Raises UsageError."""
    found = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"--header must be NAME:VALUE, got {text!r}")
        found[name.strip()] = value.strip()
    return found
