"""`POST /v1/messages`: one call is one part of a batch, accepted at most once.

With an Idempotency-Key the batch and the time of acceptance are fixed under the key before anything
is queued. A call that ended in between, for whatever reason, is then repeated as it was: the part
guard of the batch makes the second write harmless and the answer is computed again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from dispatcher import metrics
from dispatcher.bodies import (
    NewContent,
    NewMessages,
    NewRecipient,
    Parameter,
    Receipt,
    RejectedRecipient,
)
from dispatcher.engine.ingest import Ingest, OpenBatch, Part, Recipient, Submission
from dispatcher.errors import InvalidMessage, StoreUnavailable, UsageError
from dispatcher.messages import Content, message_id, new_ulid
from dispatcher.settings import TenantConfig
from dispatcher.store.queue import Queue
from dispatcher.store.submissions import Fixed, KeyTaken, Submissions
from dispatcher.units import parse_duration, parse_time
from dispatcher.web.calls import Answer, Call, Reader
from dispatcher.web.gate import Gate
from dispatcher.web.problems import Problem, invalid, not_found, refused

IN_LOOP_BYTES = 32 * 1024
"""Larger bodies are read in a thread, so that other calls do not wait for them."""
_KEY = re.compile(r"[!-~]{1,255}")
_read = Reader(NewMessages)


class _Outline(msgspec.Struct, array_like=True, frozen=True):
    """An answer as it is kept: ids follow from it."""

    first: int
    count: int
    rejected: list[RejectedRecipient]

    def receipt(self, batch: str) -> Receipt:
        refused = {item.index for item in self.rejected}
        ids = [
            None if index in refused else message_id(batch, index)
            for index in range(self.first, self.first + self.count)
        ]
        return Receipt(batch, self.count - len(refused), self.rejected, ids)


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Outline).decode


class _Key(NamedTuple):
    """An Idempotency-Key and the check value of the body it came with."""

    text: str
    check: str


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A call that only needs to be written."""

    batch: str
    appends: bool
    opened: OpenBatch
    part: Part
    outline: _Outline


class Submit:
    """Takes messages for every tenant."""

    def __init__(self, ingest: Ingest, tenants: Mapping[str, TenantConfig], gate: Gate) -> None:
        self._ingest = ingest
        self._classes = {name: frozenset(item.classes) for name, item in tenants.items()}
        self._gate = gate

    async def post(self, call: Call) -> Answer:
        """Raises Problem, StoreUnavailable."""
        key = _key(call)
        _, queue, submissions = self._gate.opened
        try:
            return await self._accept(call, key, queue, submissions)
        except KeyTaken as error:
            raise Problem(409, "key_taken", str(error)) from None

    async def _accept(
        self, call: Call, key: _Key | None, queue: Queue, submissions: Submissions
    ) -> Answer:
        at = Fixed(new_ulid(int(time.time() * 1e3)), int(time.time() * 1e6), b"")
        try:
            prepared = await self._prepare(call, at)
            await self._check_owner(call, prepared, submissions)
        except Problem:
            known = await submissions.recall(call.tenant, *key) if key else None
            if known and known.answer:
                return _kept(known)
            raise
        if key:
            mine = at._replace(batch=prepared.batch)
            at = await submissions.fix(call.tenant, *key, mine)
            if at.answer:
                return _kept(at)
            if at != mine:
                await self._check_remembered(at, submissions)
                prepared = await self._prepare(call, at)
        await self._write(queue, prepared)
        if key:
            await _keep(submissions, call.tenant, key, at, prepared.outline)
        return _answer(prepared.batch, prepared.outline)

    async def _prepare(self, call: Call, at: Fixed) -> _Prepared:
        if len(call.body) <= IN_LOOP_BYTES:
            return self._prepare_now(call, at)
        return await asyncio.to_thread(self._prepare_now, call, at)

    def _prepare_now(self, call: Call, at: Fixed) -> _Prepared:
        wanted = _read(call)
        self._check_class(call.tenant, wanted.class_)
        batch = wanted.batch or at.batch
        try:
            opened = self._ingest.open(_submission(wanted, call.tenant), (), batch, at.accepted_us)
        except InvalidMessage as error:
            raise refused(error) from None
        except UsageError as error:
            raise invalid("invalid_content", str(error)) from None
        part = opened.part(wanted.first, _recipients(wanted, opened.names))
        rejected = [RejectedRecipient(r.index, r.code, r.detail) for r in part.rejected]
        if not part.accepted:
            _count_rejected(part)
            raise Problem(
                422, "none_accepted", "none of the recipients was accepted", rejected=rejected
            )
        outline = _Outline(wanted.first, len(wanted.recipients), rejected)
        return _Prepared(batch, wanted.batch is not None, opened, part, outline)

    def _check_class(self, tenant: str, class_: str) -> None:
        allowed = self._classes.get(tenant)
        if allowed and class_ not in allowed:
            raise Problem(
                403, "class_not_allowed", f"class {class_!r} is not open to this tenant; "
                f"allowed: {', '.join(sorted(allowed))}",
            )  # fmt: skip

    async def _check_owner(self, call: Call, prepared: _Prepared, submissions: Submissions) -> None:
        """Only who owns a batch appends to it, and only more of the same."""
        if not prepared.appends:
            return
        owner = await submissions.owner(prepared.batch)
        if owner is None or owner.tenant != call.tenant:
            raise not_found(f"batch {prepared.batch}")
        if owner.options != prepared.opened.submission.fingerprint():
            raise Problem(
                409, "batch_differs",
                "all but recipients and first must be as in the first call of the batch",
            )  # fmt: skip

    async def _check_remembered(self, at: Fixed, submissions: Submissions) -> None:
        """A batch that is over is forgotten after `[retention] status`: where that is less than the
        time a key is kept, nobody can tell any more whether it was accepted."""
        age = time.time() - at.accepted_us / 1e6
        if age > self._ingest.config.retention.status and not await submissions.owner(at.batch):
            raise Problem(
                409, "key_forgotten",
                "the first call with this Idempotency-Key is too long ago to be repeated: "
                "its batch may have been sent and forgotten since",
            )  # fmt: skip

    async def _write(self, queue: Queue, prepared: _Prepared) -> None:
        accepted = await prepared.opened.enqueue(queue, prepared.part)
        place = queue.keys.place
        self._gate.accepted(queue.keys.cell, *(place(lane.lane) for lane in prepared.part.lanes))
        if accepted.repeated and accepted.check != prepared.part.check:
            raise Problem(
                409, "part_differs",
                f"other recipients were accepted from index {prepared.part.first} on",
            )  # fmt: skip
        if not accepted.repeated:
            _count(prepared.opened.submission, prepared.part)


def _count(submission: Submission, part: Part) -> None:
    metrics.SUBMITTED.labels(submission.tenant, submission.channel).inc(part.accepted)
    _count_rejected(part)


def _count_rejected(part: Part) -> None:
    for reject in part.rejected:
        metrics.REJECTED.labels(reject.code).inc()


def _key(call: Call) -> _Key | None:
    text = call.headers.get("Idempotency-Key")
    if text is None:
        return None
    if not _KEY.fullmatch(text):
        raise Problem(
            400, "invalid_key", "Idempotency-Key must be 1 to 255 printable ASCII characters"
        )
    return _Key(text, sha256(call.body).hexdigest())


def _submission(wanted: NewMessages, tenant: str) -> Submission:
    return Submission(
        wanted.channel,
        wanted.from_,
        _content(wanted.content),
        wanted.class_,
        ttl=_parsed("ttl", wanted.ttl, parse_duration),
        send_at_us=_parsed("send_at", wanted.send_at, parse_time) or 0,
        tenant=tenant,
        campaign=wanted.campaign,
    )


def _content(wanted: NewContent) -> Content:
    template = wanted.template
    return Content(
        wanted.text,
        template.name if template else None,
        template.language if template else None,
        wanted.subject,
        wanted.html,
        wanted.media,
        wanted.reply_to,
        wanted.headers,
    )


def _parsed(name: str, text: str | None, parse: Any) -> Any:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise invalid("invalid_field", f"{name} {error} - at `$.{name}`") from None


def _recipients(wanted: NewMessages, names: tuple[str, ...]) -> list[Recipient]:
    return [
        Recipient(index, item.to, _values(item, names), item.ref, item.carrier)
        for index, item in enumerate(wanted.recipients, wanted.first)
    ]


def _values(item: NewRecipient, names: tuple[str, ...]) -> tuple[str | None, ...]:
    return tuple([_text(item.params.get(name)) for name in names])


def _text(value: Parameter) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


async def _keep(
    submissions: Submissions, tenant: str, key: _Key, known: Fixed, outline: _Outline
) -> None:
    """Without it the answer is computed again when somebody asks, so a failure is none."""
    with suppress(StoreUnavailable):
        await submissions.fix(tenant, *key, known._replace(answer=_pack(outline)))


def _kept(call: Fixed) -> Answer:
    return _answer(call.batch, _unpack(call.answer))


def _answer(batch: str, outline: _Outline) -> Answer:
    return Answer(outline.receipt(batch), 202)
