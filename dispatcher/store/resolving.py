"""What has become of messages: a receipt tells of any, an operator of what nobody knew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import redis.asyncio as aioredis

from dispatcher.messages import (
    HISTORY,
    Attempt,
    Lane,
    Record,
    Status,
    decode_record,
    encode_record,
    parse_message_id,
)
from dispatcher.store.connection import answering
from dispatcher.store.keys import STATUS_BLOCK, Keys
from dispatcher.store.operations import Action, packed
from dispatcher.store.queue import Letter
from dispatcher.store.scripts import Script

RESOLVED = "resolved"
"""The code by which the story of a message tells that somebody has."""
RECEIPT = "receipt"
"""Who has told where no operator did."""
OUTCOMES = (Status.SENT, Status.DELIVERED, Status.READ, Status.UNDELIVERED, Status.DEAD)
"""What somebody may say that became of a message."""
_DONE, _CHANGED = 1, -1

_pack = msgspec.msgpack.Encoder().encode
_read_letter = msgspec.msgpack.Decoder(Letter).decode


class Said(NamedTuple):
    """What somebody says of a message: one of OUTCOMES, and what the provider calls it."""

    message: str
    status: Status
    provider_id: str | None = None


class Resolved(NamedTuple):
    """The status a message has then, None where nothing is recorded of it by itself; `changed`
    where it has just got it."""

    status: Status | None
    changed: bool = False


class _Known(NamedTuple):
    """What the store has of a message, empty where it has none."""

    value: bytes
    letter: bytes


class _Step(NamedTuple):
    """What the script does to one message: its place in the plan, and the bytes that go with it."""

    plan: tuple[str, str, int, str, str, str, str, str]
    blobs: tuple[bytes, bytes, bytes, bytes]


class Resolver:
    """The messages of one cell."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._clock = Script(client, keys, "clock")
        self._resolve = Script(client, keys, "resolve")

    async def resolve(
        self, said: Sequence[Said], status_seconds: float, action: Action | None = None
    ) -> list[Resolved]:
        """Give messages what was said of each, in the order of `said`. None goes backwards, and
        one that waits (again) is left alone. A receipt may move whatever was sent (not what has
        another id of the provider by now: it was sent again since); an operator, with `action`,
        only what is unknown.

        The letter of a message goes, or says that it is dead. `status_seconds` is the retention of
        statuses: of a message that is forgotten but for its letter nothing else is written. Raises
        StoreUnavailable, after which it may be called again, InvalidMessage for what is no message
        id, ValueError for another status.
        """
        for one in said:
            if one.status not in OUTCOMES:
                raise ValueError(f"{one.status.word} is no outcome")
        found = [Resolved(None)] * len(said)
        left = list(range(len(said)))
        while left:
            answers = await self._try([said[at] for at in left], status_seconds, action)
            for at, answer in zip(left, answers, strict=True):
                found[at] = answer or found[at]
            left = [at for at, answer in zip(left, answers, strict=True) if answer is None]
        return found

    async def _try(
        self, said: Sequence[Said], status_seconds: float, action: Action | None
    ) -> list[Resolved | None]:
        """One pass; None for a message that somebody has changed meanwhile."""
        by = RECEIPT if action is None else action.who
        at_ms = int(await self._clock(self._keys.name("control"))) // 1000
        known = await self._known([one.message for one in said])
        answers: list[Resolved | None] = []
        steps: dict[int, _Step] = {}
        for place, one in enumerate(said):
            before, step = _step(one, known[place], at_ms, by)
            answers.append(Resolved(before))
            if step is not None:
                steps[place] = step
        done = await self._write(steps.values(), status_seconds, action)
        for place, verdict in zip(steps, done, strict=True):
            if verdict == _CHANGED:
                answers[place] = None
            elif verdict == _DONE:
                answers[place] = Resolved(said[place].status, changed=True)
        return answers

    async def _write(
        self, steps: Iterable[_Step], status_seconds: float, action: Action | None
    ) -> list[int]:
        planned = list(steps)
        if not planned:
            return []
        plan = _pack([step.plan for step in planned])
        blobs = (blob for step in planned for blob in step.blobs)
        answer: list[int] = await self._resolve(
            self._keys.name("dead"), int(status_seconds), packed(action), plan, *blobs
        )
        return answer

    async def _known(self, messages: Sequence[str]) -> list[_Known]:
        """What the store has of each."""
        blocks: dict[str, list[tuple[int, int]]] = {}
        for place, message in enumerate(messages):
            batch, index = parse_message_id(message)
            name = self._keys.status(batch, index // STATUS_BLOCK)
            blocks.setdefault(name, []).append((place, index))
        values: dict[int, bytes | None] = {}
        for name, members in blocks.items():
            indexes = [index for _, index in members]
            found = await answering(partial(self._client.hmget, name, indexes))
            values |= {place: value for (place, _), value in zip(members, found, strict=True)}
        read = partial(self._client.hmget, self._keys.name("letters"), list(messages))
        letters = await answering(read)
        return [_Known(values[at] or b"", letters[at] or b"") for at in range(len(messages))]


def _step(said: Said, known: _Known, at_ms: int, by: str) -> tuple[Status | None, _Step | None]:
    """The status of a message, and what would change it; no step where nothing may."""
    letter = _read_letter(known.letter) if known.letter else None
    found = _found(known, letter)
    if found is None:
        return None, None
    before, hop, record = found
    if said.provider_id and record.provider_id not in (None, said.provider_id):
        return before, None
    new = _told(record, said, at_ms, by)
    kept = b""
    if letter is not None and said.status is Status.DEAD:
        kept = _pack(msgspec.structs.replace(letter, status=said.status.word, history=new.history))
    batch, index = parse_message_id(said.message)
    return before, _Step(
        (
            said.message, batch, index, record.lane, before.value, said.status.value,
            _counter(before, record), _counter(said.status, new),
        ),
        (
            known.value, encode_record(said.status, hop, new),
            known.letter if kept or not known.value else b"", kept,
        ),
    )  # fmt: skip


def _found(known: _Known, letter: Letter | None) -> tuple[Status, int, Record] | None:
    """What is recorded of a message, or else what its letter still knows."""
    if known.value:
        return decode_record(known.value)
    if letter is None:
        return None
    record = Record(0, letter.lane, "", code=letter.code, history=letter.history)
    return Status[letter.status.upper()], 0, record


def _told(record: Record, said: Said, at_ms: int, by: str) -> Record:
    """The record of a message after that, with one more line in its story."""
    dead = said.status is Status.DEAD
    attempt = Attempt(at_ms, Lane.parse(record.lane).provider, RESOLVED, by)
    return msgspec.structs.replace(
        record,
        at_ms=at_ms,
        provider_id=said.provider_id or record.provider_id,
        code=record.code if dead else None,
        detail=record.detail if dead else None,
        history=(*record.history, attempt)[-HISTORY:],
    )


def _counter(status: Status, record: Record) -> str:
    """Where a batch counts messages with this status and code; empty where it does not."""
    counted = status in (Status.DEAD, Status.SUPPRESSED) and record.code
    return f"{status.word}:{record.code}" if counted else ""
