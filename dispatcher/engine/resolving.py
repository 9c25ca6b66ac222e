"""Outcomes that nobody knew and an operator has learnt: the same for commands and for HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from dispatcher.engine.letters import Selection, Tally, check_ids, each, tally_view
from dispatcher.engine.views import message
from dispatcher.errors import UsageError
from dispatcher.messages import Lane, Status, message_id, parse_message_id
from dispatcher.store.letters import PAGE, DeadLetter, Letters
from dispatcher.store.opening import Store
from dispatcher.store.operations import Action
from dispatcher.store.resolving import OUTCOMES, RESOLVED, Resolved, Resolver, Said

WORDS = {status.word: status for status in OUTCOMES}
"""What an operator may say."""
ANY = Selection()


class _Known(NamedTuple):
    """What is recorded of a message that has no letter as an unknown one; `told` when somebody has
    said before what became of it."""

    status: Status | None
    told: bool = False
    lane: str = ""
    code: str = ""


class _Meant(NamedTuple):
    """What is said of a message whose outcome is unknown; `code` says why it is."""

    said: Said
    lane: str
    code: str


class Resolution:
    """Gives messages the outcomes that an operator says; a dry run only counts. Those of which
    something is known already are left alone. `status_seconds` is the retention of statuses.

    All methods raise StoreUnavailable, after which all may be said again.
    """

    def __init__(self, store: Store, status_seconds: float, action: Action, dry_run: bool) -> None:
        self._store = store
        self._letters = Letters(store.client, store.keys)
        self._resolvers = {
            cell: Resolver(store.client, keys) for cell, keys in store.keys.all().items()
        }
        self._status_seconds = status_seconds
        self._action = action
        self._dry_run = dry_run
        self.tally = Tally()
        self._outcomes: Counter[str] = Counter()
        self._already = 0

    async def say(self, selection: Selection, status: Status) -> None:
        """Say the same of every message of a selection whose outcome is unknown."""
        for first in range(0, len(selection.messages), PAGE):
            page = selection.messages[first : first + PAGE]
            said = [Said(_written_out(name), status) for name in page]
            await self.say_each(said, selection._replace(messages=()))
        if not selection.messages:
            await self._say_all(selection._replace(status=Status.UNKNOWN.word), status)

    async def _say_all(self, selection: Selection, status: Status) -> None:
        async def take(letters: list[DeadLetter]) -> None:
            meant = [_meant(Said(found.message, status), found) for found in letters]
            done = await self._write(meant)
            reasons = [self._count(*both) for both in zip(meant, done, strict=True)]
            self.tally.left.update(filter(None, reasons))

        await each(self._letters, selection, take)

    async def say_each(self, said: Sequence[Said], selection: Selection = ANY) -> list[str]:
        """Say it of these messages (up to PAGE), as far as they fit the selection. Why each is
        refused, in their order; empty for those that are not."""
        letters = {
            found.message: found
            for found in await self._letters.find([one.message for one in said])
            if found.letter.status == Status.UNKNOWN.word
        }
        known = await self._known([one.message for one in said if one.message not in letters])
        meant: dict[int, _Meant] = {}
        reasons = [""] * len(said)
        for place, one in enumerate(said):
            if one.message in letters:
                decided = _fitting(one, letters[one.message], selection)
            else:
                decided = self._unlisted(one, known[one.message], selection)
            if isinstance(decided, str):
                reasons[place] = decided
            else:
                meant[place] = decided
        for place, now in zip(meant, await self._write(list(meant.values())), strict=True):
            reasons[place] = self._count(meant[place], now)
        for one, why in zip(said, reasons, strict=True):
            if why:
                self.tally.refuse(one.message, why)
        return reasons

    def view(self) -> dict[str, Any]:
        """What was (or would be) done."""
        return tally_view(self.tally, self._dry_run) | {
            "outcomes": dict(sorted(self._outcomes.items())),
            "already": self._already,
        }

    async def _write(self, meant: Sequence[_Meant]) -> list[Resolved]:
        if self._dry_run:
            return [Resolved(one.said.status, changed=True) for one in meant]
        found: dict[int, Resolved] = {}
        place = self._store.keys.place
        for cell, resolver in self._resolvers.items():
            own = [at for at, one in enumerate(meant) if place(one.lane) == cell]
            if own:
                said = [meant[at].said for at in own]
                done = await resolver.resolve(said, self._status_seconds, self._action)
                found |= zip(own, done, strict=True)
        return [found[at] for at in range(len(meant))]

    def _count(self, meant: _Meant, now: Resolved) -> str:
        """Why a message was left alone after all; empty for one that is as was said."""
        said = meant.said.status
        if not now.changed:
            return self._refusal(said, _Known(now.status, told=True))
        self.tally.by[Lane.parse(meant.lane).provider, meant.code] += 1
        self._outcomes[said.word] += 1
        return ""

    def _refusal(self, said: Status, known: _Known) -> str:
        """Why nothing can be said of a message; empty where the same was said before."""
        if known.status is None:
            return "not known in this store"
        if known.told and known.status is said:
            self._already += 1
            return ""
        return f"{known.status.word}, not unknown"

    def _unlisted(self, said: Said, known: _Known, selection: Selection) -> _Meant | str:
        """What is meant by a message without a letter: one that was dropped may still be unknown.
        Else why nothing is."""
        if known.status is not Status.UNKNOWN:
            return self._refusal(said.status, known)
        if not selection.everything:
            return f"none of {selection.words()}"
        return _Meant(said, known.lane, known.code)

    async def _known(self, messages: Sequence[str]) -> dict[str, _Known]:
        batches: dict[str, dict[int, str]] = {}
        for name in messages:
            batch, index = parse_message_id(name)
            batches.setdefault(batch, {})[index] = name
        known: dict[str, _Known] = {}
        for batch, names in batches.items():
            records = await self._store.inspector.records(batch, list(names))
            for index, name in names.items():
                if index not in records:
                    known[name] = await self._unrecorded(name)
                    continue
                status, _, record = records[index]
                told = any(one.code == RESOLVED for one in record.history)
                known[name] = _Known(status, told, record.lane, record.code or status.word)
        return known

    async def _unrecorded(self, name: str) -> _Known:
        found = await message(self._store.inspector, name)
        return _Known(None if found is None else Status[found["status"].upper()])


def saying(name: str, word: str) -> Said:
    """One of WORDS, said of a message. Raises UsageError."""
    if word not in WORDS:
        raise UsageError(f"the outcome must be one of {', '.join(WORDS)}, got {word!r}")
    check_ids([name])
    return Said(_written_out(name), WORDS[word])


def _written_out(name: str) -> str:
    """A message id as it is written here: an index may have been given zeros in front."""
    return message_id(*parse_message_id(name))


def _meant(said: Said, found: DeadLetter) -> _Meant:
    return _Meant(said, found.letter.lane, found.letter.code or found.letter.status)


def _fitting(said: Said, found: DeadLetter, selection: Selection) -> _Meant | str:
    fits = selection.fits(found)
    return _meant(said, found) if fits else f"none of {selection.words()}"
