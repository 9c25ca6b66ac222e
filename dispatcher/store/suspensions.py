"""Which lanes an operator has suspended, as `lua/suspensions.lua` decides it.

A pattern is a lane, the beginning of one (`twilio-eu`, `twilio-eu/sms`) or has `*` for anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FOREVER_US = 9_000_000_000_000_000
"""The end of a suspension that lasts until somebody resumes the lane."""


class Suspension(NamedTuple):
    """What one `suspend` said. `number` orders it among all changes, `until_us` is its end."""

    pattern: str
    number: int
    until_us: int
    reason: str

    @property
    def forever(self) -> bool:
        """Whether it has no end of its own."""
        return self.until_us >= FOREVER_US


class Suspensions(NamedTuple):
    """All that hold; `resumed` says since which change number lanes are exempt from older ones."""

    holding: tuple[Suspension, ...]
    resumed: Mapping[str, int]

    def of(self, lane: str) -> Suspension | None:
        """What suspends a lane, the one that ends last."""
        found = [item for item in self.holding if covers(item.pattern, lane)]
        found = [item for item in found if not self._resumed_since(lane, item.number)]
        return max(found, key=lambda item: item.until_us, default=None)

    def _resumed_since(self, lane: str, number: int) -> bool:
        later = (pattern for pattern, at in self.resumed.items() if at > number)
        return any(covers(pattern, lane) for pattern in later)


def read_suspensions(
    holding: Mapping[str, str], resumed: Mapping[str, str], now_us: int
) -> Suspensions:
    """Of the two hashes in the store (see `store.keys`); those that have ended are left out."""
    read = (_suspension(pattern, value) for pattern, value in sorted(holding.items()))
    return Suspensions(
        tuple(item for item in read if item.until_us > now_us),
        {pattern: int(number) for pattern, number in resumed.items()},
    )


def covers(pattern: str, lane: str) -> bool:
    """Whether a pattern holds for a lane: it fits, or the lane is one within it."""
    return _fits(pattern, lane) or _fits(f"{pattern}/*", lane)


def _fits(pattern: str, text: str) -> bool:
    head, *parts = pattern.split("*")
    if not parts:
        return text == pattern
    *middle, tail = parts
    if not text.startswith(head):
        return False
    at = len(head)
    for part in middle:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - len(tail) >= at and text.endswith(tail)


def _suspension(pattern: str, value: str) -> Suspension:
    number, until, reason = value.split(" ", 2)
    return Suspension(pattern, int(number), int(until), reason)
