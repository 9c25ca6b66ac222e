"""What has become of messages whose outcome was unknown: a receipt or an operator tells."""

from __future__ import annotations

from functools import partial

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
    message_id,
    parse_message_id,
)
from dispatcher.store.connection import answering
from dispatcher.store.keys import STATUS_BLOCK, Keys
from dispatcher.store.queue import Letter
from dispatcher.store.scripts import Script

RESOLVED = "resolved"
"""The code by which the story of a message tells that somebody has."""
OUTCOMES = frozenset(
    (Status.SENT, Status.UNDELIVERED, Status.DELIVERED, Status.READ, Status.DEAD),
)
"""What can become of a message whose outcome was unknown."""


class Resolver:
    """The messages of one cell. All methods raise StoreUnavailable."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._resolve = Script(client, keys, "resolve")

    async def resolve(
        self,
        message: str,
        status: Status,
        *,
        status_seconds: float,
        provider_id: str | None = None,
        detail: str | None = None,
    ) -> Status | None:
        """Give a message one of OUTCOMES; the status it has then. That is another one where it has
        gone further before, or waits again; None where nothing is recorded of it by itself.

        Its letter goes, or says that it is dead. `status_seconds` is the retention of statuses.
        Raises InvalidMessage for what is no message id, ValueError for another status.
        """
        if status not in OUTCOMES:
            raise ValueError(f"{status.word} is no outcome")
        batch, index = parse_message_id(message)
        while True:
            old = await self._value(batch, index)
            if old is None:
                return None
            new = await self._renewed(old, status, provider_id, detail)
            answer = await self._write(batch, index, old, new, status_seconds)
            if answer != b"changed":
                return status if answer == b"resolved" else decode_record(old)[0]

    async def _value(self, batch: str, index: int) -> bytes | None:
        name = self._keys.status(batch, index // STATUS_BLOCK)
        found: bytes | None = await answering(partial(self._client.hget, name, str(index)))
        return found

    async def _renewed(
        self, old: bytes, status: Status, provider_id: str | None, detail: str | None
    ) -> bytes:
        """The record with its new status, and one more line in its story."""
        _, hop, record = decode_record(old)
        seconds, micros = await answering(self._client.time)
        at_ms = int(seconds) * 1000 + int(micros) // 1000
        attempt = Attempt(at_ms, Lane.parse(record.lane).provider, RESOLVED)
        renewed = msgspec.structs.replace(
            record,
            at_ms=at_ms,
            provider_id=provider_id or record.provider_id,
            code=record.code if status is Status.DEAD else None,
            detail=detail,
            history=(*record.history, attempt)[-HISTORY:],
        )
        return encode_record(status, hop, renewed)

    async def _write(
        self, batch: str, index: int, old: bytes, new: bytes, status_seconds: float
    ) -> bytes:
        message = message_id(batch, index)
        (before, _, record), (after, _, renewed) = decode_record(old), decode_record(new)
        letter = await self._letter(message) if after is Status.DEAD else b""
        answer: bytes = await self._resolve(
            self._keys.name("batch", batch),
            message, batch, index, old, new, letter, record.lane, int(status_seconds),
            _counter(before, record), _counter(after, renewed),
        )  # fmt: skip
        return answer

    async def _letter(self, message: str) -> bytes:
        """The letter of a message that is dead now; empty where there is none."""
        name = self._keys.name("letters")
        found = await answering(partial(self._client.hget, name, message))
        if found is None:
            return b""
        letter = msgspec.msgpack.decode(found, type=Letter)
        return msgspec.msgpack.encode(msgspec.structs.replace(letter, status=Status.DEAD.word))


def _counter(status: Status, record: Record) -> str:
    """Where a batch counts messages with this status and code; empty where it does not."""
    counted = status in (Status.DEAD, Status.SUPPRESSED) and record.code
    return f"{status.word}:{record.code}" if counted else ""
