"""`dispatcher send --api`: one file becomes one batch over HTTP.

The first call that has an accepted record makes the batch, later ones append to it. A call is the
same call by its batch and its first record, so after any doubt it is sent again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import click
import msgspec

from dispatcher.bodies import (
    BODY_BYTES,
    RECIPIENTS_MOST,
    BatchCounts,
    NewContent,
    NewMessages,
    NewRecipient,
    Parameter,
    RejectedRecipient,
    TemplateName,
)
from dispatcher.cli.content import headers, html
from dispatcher.cli.progress import Progress
from dispatcher.cli.records import Item, open_records
from dispatcher.cli.rejects import Rejects
from dispatcher.cli.running import run, run_all
from dispatcher.client import ApiError, Client
from dispatcher.engine.ingest import Recipient, Rejected
from dispatcher.errors import DispatcherError, InvalidMessage, UsageError
from dispatcher.messages import Status
from dispatcher.policy.recipients import normalise
from dispatcher.template import Template
from dispatcher.toml import masked

CALLS_UNDER_WAY = 2
TOKEN_VARIABLE = "DISPATCHER_TOKEN"
POLL_SECONDS = 0.5
LATE_SECONDS = 5.0
"""An API that takes longer for the first answer is worth a line."""
NOBODY = NewRecipient("")

RejectTo = Callable[[int, Rejected], None]
"""Is told the line and the reason of a refused record."""


@dataclass(slots=True)
class Outcome:
    """What became of the records of the file."""

    batch: str | None = None
    accepted: int = 0
    duplicates: int = 0
    counts: BatchCounts | None = None


@dataclass(slots=True)
class _Chunk:
    """Records from `first` on. One that is not to be sent keeps its place as NOBODY, since an index
    follows from the place in the call; `bad` says why, for those that are refused here."""

    first: int
    lines: list[int] = field(default_factory=list)
    recipients: list[NewRecipient] = field(default_factory=list)
    bad: dict[int, Rejected] = field(default_factory=dict)

    def halves(self) -> tuple[_Chunk, _Chunk]:
        """The same records as two calls."""
        middle = len(self.recipients) // 2
        return (
            _Chunk(self.first, self.lines[:middle], self.recipients[:middle], self.bad),
            _Chunk(self.first + middle, self.lines[middle:], self.recipients[middle:], self.bad),
        )


class ApiSend:
    """One call of the command. `wanted` is all but the recipients."""

    def __init__(
        self,
        url: str,
        wanted: NewMessages,
        *,
        source: BinaryIO,
        file: str,
        dedupe: bool,
        progress: Progress,
        reject: RejectTo,
    ) -> None:
        self._url = masked(url)
        self._client = Client(url, os.environ.get(TOKEN_VARIABLE))
        self._wanted = wanted
        self._records = open_records(source, file)
        self._names = Template.compile(wanted.content.text or "").names
        self._check_columns(file)
        self._seen: set[int] | None = set() if dedupe else None
        self._progress = progress
        self._reject = reject
        self._head = len(msgspec.json.encode(wanted)) + 1024
        self._rejected = 0
        self._outcome = Outcome(wanted.batch)

    def _check_columns(self, file: str) -> None:
        columns = self._records.columns
        missing = [n for n in self._names if columns is not None and n not in columns]
        if missing:
            raise UsageError(f"{file}: the text needs {', '.join(missing)}, which is no column")

    async def run(self, *, wait: bool, announce: Callable[[str], None]) -> Outcome:
        """Submit the file; with `wait` until nothing of it is queued or scheduled. `announce` is
        told the batch as soon as there is one. Raises DispatcherError."""
        async with self._client:
            try:
                with self._progress:
                    await self._submit_all(announce)
            except ApiError as error:
                raise self._failed(error) from None
            if wait and self._outcome.batch:
                self._outcome.counts = await self._finished(self._outcome.batch)
        return self._outcome

    def _failed(self, error: ApiError) -> DispatcherError:
        if error.status in (400, 403, 404, 409, 422):
            return UsageError(error.detail)
        hint = f"; continue with --resume {self._outcome.batch}" if self._outcome.batch else ""
        return DispatcherError(f"{error}{hint}")

    async def _submit_all(self, announce: Callable[[str], None]) -> None:
        chunks = self._chunks()
        late = asyncio.get_running_loop().call_later(LATE_SECONDS, self._say_late)
        try:
            while self._outcome.batch is None:
                chunk = next(chunks, None)
                if chunk is None:
                    return
                await self._submit(chunk)
        finally:
            late.cancel()
        announce(self._outcome.batch)
        await run_all((self._submit(chunk) for chunk in chunks), CALLS_UNDER_WAY)

    def _say_late(self) -> None:
        self._progress.waiting(f"{self._url} does not answer yet")

    def _chunks(self) -> Iterator[_Chunk]:
        """Cut by number and size alone, so that a resumed file is cut as it was the first time."""
        items, first = self._records.read(self._names), 0
        while block := list(islice(items, RECIPIENTS_MOST)):
            yield from self._fitting(self._chunk(first, block))
            first += len(block)
            self._progress.show(first, self._rejected)

    def _fitting(self, chunk: _Chunk) -> Iterator[_Chunk]:
        size = len(msgspec.json.encode(chunk.recipients)) + self._head
        if size <= BODY_BYTES or len(chunk.recipients) == 1:
            yield chunk
            return
        for half in chunk.halves():
            yield from self._fitting(half)

    def _chunk(self, first: int, block: Sequence[Item]) -> _Chunk:
        chunk = _Chunk(first)
        for line, record in block:
            chunk.lines.append(line)
            if isinstance(record, Rejected):
                chunk.bad[record.index] = record
                chunk.recipients.append(NOBODY)
            else:
                chunk.recipients.append(NOBODY if self._repeats(record) else self._plain(record))
        return chunk

    def _plain(self, record: Recipient) -> NewRecipient:
        params: dict[str, Parameter] = dict(zip(self._names, record.values, strict=True))
        return NewRecipient(record.to, params, record.ref, record.carrier)

    def _repeats(self, record: Recipient) -> bool:
        if self._seen is None:
            return False
        try:
            mark = hash(normalise(self._wanted.channel, record.to))
        except InvalidMessage:
            return False
        known = len(self._seen)
        self._seen.add(mark)
        repeats = len(self._seen) == known
        self._outcome.duplicates += repeats
        return repeats

    async def _submit(self, chunk: _Chunk) -> None:
        refused: Sequence[RejectedRecipient] = ()
        if any(recipient is not NOBODY for recipient in chunk.recipients):
            refused = await self._post(chunk)
        found = {item.index: Rejected(item.index, item.code, item.detail) for item in refused}
        for at, recipient in enumerate(chunk.recipients):
            index = chunk.first + at
            reject = chunk.bad.get(index)
            if recipient is not NOBODY:
                reject = found.get(index)
            if reject is not None:
                self._rejected += 1
                self._reject(chunk.lines[at], reject)

    async def _post(self, chunk: _Chunk) -> Sequence[RejectedRecipient]:
        call = msgspec.structs.replace(
            self._wanted,
            recipients=chunk.recipients,
            batch=self._outcome.batch,
            first=chunk.first,
        )
        try:
            receipt = await self._client.submit(call)
        except ApiError as error:
            if error.code != "none_accepted":
                raise
            return error.rejected
        self._outcome.batch = receipt.batch
        self._outcome.accepted += receipt.accepted
        return receipt.rejected

    async def _finished(self, batch: str) -> BatchCounts:
        while True:
            counts = await self._client.batch(batch)
            if counts.queued + counts.scheduled == 0:
                return counts
            await asyncio.sleep(POLL_SECONDS)


def send(given: Mapping[str, Any], source: BinaryIO) -> int:
    """`dispatcher send` with its options as `given`; the exit code. Raises DispatcherError."""
    for option in ("dry_run", "tenant"):
        if given[option] not in (False, "default"):
            name = option.replace("_", "-")
            raise UsageError(f"--{name} does not go with --api: the API decides about it")
    _check_url(given["api"])
    file: str = given["file"]
    progress = Progress(source, file)
    with Rejects(given["rejects"], progress.line, source) as rejects:
        sending = ApiSend(
            given["api"], _wanted(given), source=source, file=file, dedupe=given["dedupe"],
            progress=progress, reject=rejects.add,
        )  # fmt: skip
        outcome = run(sending.run(wait=given["wait"], announce=_announce))
    _report(outcome, rejects.count, given)
    counts = outcome.counts
    failed = rejects.count or (counts and (counts.dead or counts.unknown))
    return 1 if failed else 0


def _check_url(url: str) -> None:
    """Raises UsageError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--api must be a URL such as http://127.0.0.1:8080, got {url!r}")


def _wanted(given: Mapping[str, Any]) -> NewMessages:
    template = TemplateName(given["template"]) if given["template"] else None
    content = NewContent(
        given["text"], template, given["subject"], html(given["html"]), given["media"],
        given["reply_to"], headers(given["headers"]),
    )  # fmt: skip
    return NewMessages(
        channel=given["channel"],
        from_=given["sender"],
        content=content,
        recipients=(),
        class_=given["class_"],
        ttl=given["ttl"],
        send_at=given["at"],
        batch=given["resume"],
    )


def _announce(batch: str) -> None:
    click.echo(f"batch {batch}", err=True)


def _report(outcome: Outcome, rejected: int, given: Mapping[str, Any]) -> None:
    counts = msgspec.to_builtins(outcome.counts) if outcome.counts else None
    found = {
        "batch": outcome.batch,
        "accepted": outcome.accepted,
        "rejected": rejected,
        "duplicates": outcome.duplicates,
        "counts": {s.word: counts[s.word] for s in Status} if counts else None,
    }
    if given["as_json"]:
        click.echo(msgspec.json.encode(found).decode())
        return
    notes = [f"{outcome.accepted} accepted", f"{rejected} rejected"]
    if given["dedupe"]:
        notes.append(f"{outcome.duplicates} duplicates left out")
    click.echo(", ".join(notes))
    if counts:
        click.echo(", ".join(f"{counts[s.word]} {s.word}" for s in Status if counts[s.word]))
