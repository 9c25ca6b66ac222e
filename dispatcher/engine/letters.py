"""Which dead letters are meant, and sending them again: the same for commands and for HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dispatcher.engine.lane_states import check_provider
from dispatcher.engine.views import attempts_view
from dispatcher.engine.waiting import moment
from dispatcher.errors import InvalidMessage, UsageError
from dispatcher.messages import (
    HISTORY,
    Attempt,
    Lane,
    Record,
    Row,
    Status,
    UnknownFormat,
    decode_body,
    encode_body,
    encode_record,
    parse_message_id,
)
from dispatcher.store.inspector import Inspector
from dispatcher.store.letters import Again, CellLetters, DeadLetter, Letters
from dispatcher.store.operations import Action
from dispatcher.units import TIME, Quota, parse_duration, parse_rate, parse_time

REFUSED_MOST = 1000
"""Refused messages that an answer names, at most; all are counted."""
NO_LETTER = "not among the dead letters"
REPLAYED = "replayed"
"""What the story of a message says of its new generation."""
Take = Callable[[list[DeadLetter]], Awaitable[None]]
"""Is given letters."""


class Selection(NamedTuple):
    """The letters that are meant: all that is given must fit. The code "unknown" stands for every
    outcome that is not known; `since_us` is when a letter was written, at the earliest."""

    messages: tuple[str, ...] = ()
    provider: str | None = None
    code: str | None = None
    channel: str | None = None
    tenant: str | None = None
    status: str | None = None
    since_us: int = 0

    @property
    def everything(self) -> bool:
        """Whether nothing was given."""
        return self == Selection()

    def fits(self, found: DeadLetter) -> bool:
        """Whether a letter is meant."""
        letter, lane = found.letter, Lane.parse(found.letter.lane)
        return (
            self.provider in (None, lane.provider)
            and self.channel in (None, lane.channel)
            and self.code in (None, letter.code, letter.status if self.code == "unknown" else None)
            and self.status in (None, letter.status)
            and found.at_us >= self.since_us
            and (self.tenant is None or self.tenant == _tenant(found))
        )

    def words(self) -> str:
        """As the audit tells it."""
        given = {"since": moment(self.since_us) if self.since_us else None, **self._asdict()}
        told = [f"{name} {value}" for name, value in given.items()
                if value and name not in ("messages", "since_us")]  # fmt: skip
        if self.messages:
            only = self.messages[0] if len(self.messages) == 1 else f"{len(self.messages)} named"
            told.insert(0, only)
        return ", ".join(told) or "all"


class Refused(NamedTuple):
    """A message that was named and cannot be meant, and why."""

    message: str
    detail: str


@dataclass(slots=True)
class Tally:
    """Letters counted by provider and code; `left` counts those that stay, by the reason. `refused`
    are the first that were named and are left alone."""

    by: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)

    @property
    def messages(self) -> int:
        """All that are meant and do not stay."""
        return self.by.total()

    def refuse(self, message: str, why: str) -> None:
        """Leave a message alone that was named."""
        self.left[why] += 1
        if len(self.refused) < REFUSED_MOST:
            self.refused.append(Refused(message, f"{message} is {why}"))


async def newest(letters: Letters, selection: Selection, most: int) -> list[DeadLetter]:
    """The latest letters that are meant, the newest first."""
    if selection.messages:
        named = await letters.find(selection.messages)
        return [found for found in reversed(named) if selection.fits(found)][:most]
    shown = [found for cell in letters.cells for found in await _newest(cell, selection, most)]
    return sorted(shown, key=lambda found: -found.at_us)[:most]


async def _newest(letters: CellLetters, selection: Selection, most: int) -> list[DeadLetter]:
    shown: list[DeadLetter] = []
    async for page in letters.pages(selection.since_us, newest_first=True):
        shown += [found for found in page if selection.fits(found)]
        if len(shown) >= most:
            break
    return shown[:most]


async def drop(letters: Letters, selection: Selection, action: Action, dry_run: bool) -> Tally:
    """Forget what is meant; a dry run only counts."""
    tally = Tally()

    async def take(meant: list[DeadLetter]) -> None:
        tally.by.update(map(_place, meant))
        if not dry_run:
            await letters.drop(meant, action)

    for message in await each(letters, selection, take):
        tally.refuse(message, NO_LETTER)
    return tally


class Replay:
    """Sends letters again from `start_us` on (0: at once), one every `interval_us`."""

    def __init__(
        self, letters: Letters, now_us: int, interval_us: float, status_seconds: float
    ) -> None:
        self._letters = letters
        self._now_us = now_us
        self._interval_us = interval_us
        self._status_seconds = status_seconds
        self._number = 0
        self._by = ""
        self._tally = Tally()

    async def run(self, selection: Selection, action: Action, dry_run: bool) -> Tally:
        """A dry run changes nothing. The rate holds on when this has ended: each message waits in
        the store until its time."""
        self._by = action.who

        async def take(meant: list[DeadLetter]) -> None:
            again = [item for found in meant if (item := self._again(found)) is not None]
            if again and not dry_run:
                await self._letters.replay(again, self._status_seconds, action)

        for message in await each(self._letters, selection, take):
            self._tally.refuse(message, NO_LETTER)
        return self._tally

    def _again(self, found: DeadLetter) -> Again | None:
        """None for what stays: it has expired, or was written by a newer version."""
        letter, due_us = found.letter, self._due_us()
        if 0 < letter.expires_us <= max(due_us, self._now_us):
            self._tally.left["expired"] += 1
            return None
        try:
            envelope, (row,) = decode_body(letter.body)
        except (UnknownFormat, ValueError):
            self._tally.left["unreadable"] += 1
            return None
        lane, (batch, index) = Lane.parse(letter.lane), parse_message_id(found.message)
        attempt = Attempt(self._now_us // 1000, lane.provider, REPLAYED, self._by)
        row = Row(index, row.to, row.values, row.ref, row.hop + 1,
                  history=(*letter.history, attempt)[-HISTORY:])  # fmt: skip
        status = Status.SCHEDULED if due_us else Status.QUEUED
        record = Record(self._now_us // 1000, letter.lane, row.to, row.ref,
                        due_ms=due_us // 1000, history=row.history)  # fmt: skip
        self._number += 1
        self._tally.by[_place(found)] += 1
        return Again(
            found.message, batch, index, row.hop, letter, due_us,
            encode_record(status, row.hop, record), encode_body(envelope, [row]),
            envelope.tenant, envelope.channel, envelope.accepted_us,
        )  # fmt: skip

    def _due_us(self) -> int:
        if not self._interval_us:
            return 0
        return self._now_us + int(self._number * self._interval_us)


async def each(letters: Letters, selection: Selection, take: Take) -> list[str]:
    """Hand over all that are meant, page by page; letters that are written meanwhile are not. The
    messages that were named and have no letter."""
    missing = dict.fromkeys(selection.messages)
    async for page in _pages(letters, selection):
        for found in page if missing else ():
            missing.pop(found.message, None)
        if meant := [found for found in page if selection.fits(found)]:
            await take(meant)
    return list(missing)


async def _pages(letters: Letters, selection: Selection) -> AsyncIterator[list[DeadLetter]]:
    if selection.messages:
        yield await letters.find(selection.messages)
        return
    for cell in letters.cells:
        async for page in cell.pages(selection.since_us):
            yield page


def _tenant(found: DeadLetter) -> str | None:
    try:
        return decode_body(found.letter.body)[0].tenant
    except UnknownFormat:
        return None


def _place(found: DeadLetter) -> tuple[str, str]:
    return Lane.parse(found.letter.lane).provider, found.letter.code or found.letter.status


def check_ids(messages: Iterable[str]) -> None:
    """Raises UsageError for what is no message id."""
    for message in messages:
        try:
            parse_message_id(message)
        except InvalidMessage as error:
            raise UsageError(error.detail) from None


async def check_selection(
    inspector: Inspector, configured: Iterable[str], selection: Selection
) -> None:
    """Raises UsageError for a provider that nobody knows, StoreUnavailable."""
    if selection.provider is not None:
        await check_provider(inspector, configured, selection.provider)


def since(text: str | None, now_us: int, name: str) -> int:
    """The time (us) that a text means: one in RFC 3339, or how long ago. Raises UsageError."""
    if text is None:
        return 0
    try:
        return now_us - round(parse_duration(text) * 1e6)
    except ValueError:
        pass
    try:
        return parse_time(text)
    except ValueError:
        allowed = f'{TIME}, or how long ago, such as "2h"'
        raise UsageError(f"{name} must be {allowed}, got {text!r}") from None


def even_interval(text: str, name: str) -> float:
    """The interval (us) of a rate. Raises UsageError."""
    try:
        rate = parse_rate(text)
    except ValueError as error:
        raise UsageError(f"{name} {error}") from None
    if isinstance(rate, Quota):
        raise UsageError(f"{name} must be per s, min or h, got {text!r}")
    return rate.interval_us


def letter_view(found: DeadLetter) -> dict[str, Any]:
    """A letter as users see it, without its content."""
    letter, lane = found.letter, Lane.parse(found.letter.lane)
    return {
        "message": found.message,
        "at": moment(found.at_us),
        "status": letter.status,
        "code": letter.code,
        "detail": letter.detail,
        "provider": lane.provider,
        "channel": lane.channel,
        "carrier": lane.carrier,
        "lane": letter.lane,
        "class": letter.class_,
        "provider_id": letter.provider_id,
        "expires_at": moment(letter.expires_us) if letter.expires_us else None,
    }


def letter_story(found: DeadLetter) -> dict[str, Any]:
    """A letter with all it holds: whom it was for, what it said, and its attempts."""
    told = letter_view(found)
    try:
        envelope, rows = decode_body(found.letter.body)
    except UnknownFormat as error:
        return told | {"unreadable": str(error)}
    row, content = rows[0], envelope.content
    return told | {
        "tenant": envelope.tenant,
        "from": envelope.sender,
        "to": row.to,
        "ref": row.ref,
        "text": content.text,
        "template": content.template,
        "params": dict(zip(envelope.columns, row.values, strict=False)),
        "accepted_at": moment(envelope.accepted_us),
        "attempts": attempts_view(found.letter.history),
    }


def tally_view(tally: Tally, dry_run: bool) -> dict[str, Any]:
    """What was (or would be) done."""
    return {
        "messages": tally.messages,
        "dry_run": dry_run,
        "by": _by(sorted(tally.by.items())),
        "left": dict(sorted(tally.left.items())),
        "refused": [one._asdict() for one in tally.refused],
    }


def _by(counted: Sequence[tuple[tuple[str, str], int]]) -> list[dict[str, Any]]:
    return [{"provider": p, "code": code, "messages": n} for (p, code), n in counted]
