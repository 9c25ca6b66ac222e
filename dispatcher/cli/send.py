"""`dispatcher send`: one file becomes one batch."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, BinaryIO

import click
import msgspec

from dispatcher.cli.content import headers, html
from dispatcher.cli.options import (
    State,
    check_tenant,
    config_option,
    json_option,
    load_config,
    require_providers,
)
from dispatcher.cli.progress import Progress
from dispatcher.cli.records import Item, Records, open_records, open_source
from dispatcher.cli.rejects import Rejects
from dispatcher.cli.running import run, run_all
from dispatcher.engine.ingest import Ingest, OpenBatch, Part, Recipient, Rejected, Submission
from dispatcher.engine.runtime import create_providers, write_limits
from dispatcher.errors import (
    DispatcherError,
    InvalidMessage,
    NotFound,
    StoreUnavailable,
    UsageError,
)
from dispatcher.messages import CHANNELS, CLASSES, Content, is_ulid, new_ulid
from dispatcher.settings import Config
from dispatcher.store.inspector import BatchView
from dispatcher.store.opening import Store, open_store
from dispatcher.units import parse_duration, parse_time

PART_RECORDS = 2000
"""Records per part. Fixed: a resumed file must be cut as it was the first time."""
PARTS_UNDER_WAY = 4
PATIENCE = 30.0
"""Seconds a store that goes away in mid-file is waited for."""


class Cut(DispatcherError):
    """A file could not be read or written to its end."""


@dataclass(slots=True)
class Options:
    """What the command line said."""

    file: str
    submission: Submission
    dry_run: bool
    rejects: str | None
    resume: str | None
    wait: bool
    as_json: bool


@dataclass(slots=True)
class Tally:
    """What became of the records read so far."""

    accepted: int = 0
    resumed: int = 0
    rejected: int = 0
    duplicates: int = 0
    carriers: dict[str, int] = field(default_factory=dict)


@click.command()
@config_option
@click.argument("file")
@click.option("--channel", required=True, type=click.Choice(CHANNELS))
@click.option("--from", "sender", required=True, metavar="ID", help="Configured sender, or as is.")
@click.option("--text", metavar="T", help="Text with {parameters}.")
@click.option("--template", metavar="NAME", help="Template of the provider instead of a text.")
@click.option("--class", "class_", default="bulk", show_default=True, type=click.Choice(CLASSES))
@click.option("--subject", metavar="S", help="Of an e-mail.")
@click.option("--reply-to", metavar="ADDRESS", help="Of an e-mail.")
@click.option("--media", metavar="URL", multiple=True, help="To attach; may be repeated.")
@click.option(
    "--header",
    "headers",
    metavar="NAME:VALUE",
    multiple=True,
    help="Of an e-mail; may be repeated.",
)
@click.option(
    "--html",
    metavar="F",
    type=click.Path(exists=True, dir_okay=False),
    help="File with the HTML part of an e-mail.",
)
@click.option("--ttl", metavar="TIME", help="Not sent after this, e.g. 2h.")
@click.option("--at", metavar="TIME", help="Not sent before, e.g. 2026-11-27T09:00:00+01:00.")
@click.option("--tenant", default="default", show_default=True, help="For whom it is sent.")
@click.option("--dedupe", is_flag=True, help="Send once to a recipient that stands there twice.")
@click.option("--dry-run", is_flag=True, help="Validate all, print counts, write nothing.")
@click.option("--rejects", metavar="FILE", help="Write refused records here as CSV.")
@click.option("--resume", metavar="BATCH", help="Continue an interrupted file.")
@click.option("--api", metavar="URL", help="Over HTTP; the token is in $DISPATCHER_TOKEN.")
@click.option("--wait", is_flag=True, help="Until nothing is queued or scheduled.")
@json_option
@click.pass_obj
def send(state: State, /, **given: Any) -> int:
    """Submit every record of FILE (CSV with a header, or JSON Lines; - is stdin) as one batch.

    Columns to, ref and carrier are reserved, all others are parameters of the text.

    \b
    Example: dispatcher send customers.csv --channel sms --from shop --text "Hi {name}"
    """
    if given["api"] is not None:
        from dispatcher.cli import send_api  # its HTTP client is half of the time to start

        with open_source(given["file"]) as source:
            return send_api.send(given, source)
    config = load_config(state)
    require_providers(config, state)
    options = _options(config, given)
    ingest = Ingest(config, create_providers(config))
    with open_source(options.file) as source:
        try:
            return run(_Run(config, ingest, options, source).run())
        except InvalidMessage as error:
            raise UsageError(f"{error.code}: {error.detail}") from None


def _options(config: Config, given: dict[str, Any]) -> Options:
    tenant = given["tenant"]
    check_tenant(config, tenant)
    if given["resume"] is not None and not is_ulid(given["resume"]):
        raise UsageError(f"--resume {given['resume']!r} is not a batch id")
    ttl = _parsed("--ttl", given["ttl"], parse_duration)
    if ttl == 0:
        raise UsageError("--ttl must be above 0")
    content = Content(
        text=given["text"], template=given["template"], subject=given["subject"],
        html=html(given["html"]), media=given["media"], reply_to=given["reply_to"],
        headers=headers(given["headers"]),
    )  # fmt: skip
    submission = Submission(
        given["channel"], given["sender"], content, given["class_"], ttl,
        _parsed("--at", given["at"], parse_time) or 0, tenant, dedupe=given["dedupe"],
    )  # fmt: skip
    return Options(
        given["file"], submission, given["dry_run"], given["rejects"], given["resume"],
        given["wait"], given["as_json"],
    )  # fmt: skip


def _parsed(option: str, text: str | None, parse: Any) -> Any:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None


class _Run:
    """One call of the command."""

    def __init__(self, config: Config, ingest: Ingest, options: Options, source: BinaryIO) -> None:
        self._config = config
        self._ingest = ingest
        self._options = options
        self._source = source
        self._tally = Tally()
        self._regular = stat.S_ISREG(os.fstat(source.fileno()).st_mode)
        self._blocking = False
        self._lines: dict[int, int] = {}
        self._progress = Progress(source, options.file)
        self._rejects = Rejects(options.rejects, self._progress.line, source)

    async def run(self) -> int:
        now_us = int(time.time() * 1e6)
        batch = self._options.resume or new_ulid(now_us // 1000)
        records = self._open_records()
        columns = records.columns
        opened = self._ingest.open(self._options.submission, columns or (), batch, now_us)
        if columns is not None and opened.missing:
            raise UsageError(
                f"{self._options.file}: the text needs {', '.join(opened.missing)}, "
                f"the columns are {', '.join(columns) or 'none but reserved ones'}"
            )
        async with AsyncExitStack() as stack:
            stack.enter_context(self._rejects)
            if self._options.dry_run:
                with self._progress:
                    for part in self._parts(opened, records, {}):
                        self._count(part, resumed=False)
                return self._report(None)
            store = await stack.enter_async_context(open_store(self._config.store))
            await self._submit(opened, records, store)
            view = await self._finish(store, batch) if self._options.wait else None
            return self._report(batch, view)

    def _open_records(self) -> Records:
        if not self._regular:
            self._catch_ctrl_c()
        try:
            with self._open_to_ctrl_c():
                return open_records(self._source, self._options.file)
        except OSError as error:
            raise Cut(f"{self._options.file} cannot be read: {error.strerror}") from None

    def _catch_ctrl_c(self) -> None:
        """Let Ctrl-C break into a read from a pipe, which holds up the loop. At any other time it
        cancels, as it does by itself: it must not break into what the loop calls."""
        cancel = signal.getsignal(signal.SIGINT)

        def interrupt(number: int, frame: FrameType | None) -> None:
            if self._blocking or not callable(cancel):
                raise KeyboardInterrupt
            cancel(number, frame)

        signal.signal(signal.SIGINT, interrupt)

    @contextmanager
    def _open_to_ctrl_c(self) -> Iterator[None]:
        self._blocking = True
        try:
            yield
        finally:
            self._blocking = False

    def _items(self, opened: OpenBatch, records: Records) -> Iterator[Item]:
        try:
            yield from records.read(opened.names)
        except OSError as error:
            raise Cut(f"{self._options.file} cannot be read: {error.strerror}") from None

    async def _submit(self, opened: OpenBatch, records: Records, store: Store) -> None:
        batch = opened.envelope.batch
        await write_limits(store, self._ingest.limits, self._config.providers)
        if self._options.resume:
            known = await self._accepted_before(store, opened)
        else:
            known = {}
            await opened.begin(store.queue, PATIENCE, self._progress.waiting)
        click.echo(f"batch {batch}", err=True)
        try:
            with self._progress:
                await self._enqueue_all(opened, store, self._parts(opened, records, known))
        except (StoreUnavailable, Cut) as error:
            raise DispatcherError(f"{error}; continue with --resume {batch}") from None
        except (asyncio.CancelledError, KeyboardInterrupt):
            click.echo(f"interrupted; continue with --resume {batch}", err=True)
            raise

    async def _enqueue_all(self, opened: OpenBatch, store: Store, parts: Iterator[Part]) -> None:
        """A few parts at a time; one from a pipe, whose next record may be long in coming."""
        most = PARTS_UNDER_WAY if self._regular else 1
        await run_all((self._enqueue(opened, store, part) for part in parts), most)

    async def _enqueue(self, opened: OpenBatch, store: Store, part: Part) -> None:
        answer = await opened.enqueue_patiently(store.queue, part, PATIENCE, self._progress.waiting)
        if answer.repeated and answer.check != part.check:
            raise self._changed(part.first)
        self._count(part, resumed=answer.repeated)

    async def _accepted_before(self, store: Store, opened: OpenBatch) -> dict[int, str]:
        parts, options = await store.inspector.parts(opened.envelope.batch)
        if options is None:
            raise NotFound(
                f"batch {opened.envelope.batch} is not in this store: nothing of it was accepted"
            )
        if options != self._options.submission.fingerprint():
            raise UsageError("--resume needs the options of the first call (text, from, at, …)")
        return parts

    def _changed(self, first: int) -> UsageError:
        return UsageError(
            f"{self._options.file} has changed: record {first} and the next {PART_RECORDS - 1} "
            "are not those accepted before"
        )

    def _parts(self, opened: OpenBatch, records: Records, known: dict[int, str]) -> Iterator[Part]:
        parts = self._read(opened, records, known)
        while True:
            with self._open_to_ctrl_c():
                part = next(parts, None)
            if part is None:
                return
            yield part

    def _read(self, opened: OpenBatch, records: Records, known: dict[int, str]) -> Iterator[Part]:
        chunk: list[Item] = []
        first = 0
        for item in self._items(opened, records):
            chunk.append(item)
            if len(chunk) == PART_RECORDS:
                yield from self._part(opened, first, chunk, known)
                first, chunk = first + PART_RECORDS, []
                self._progress.show(first, self._tally.rejected)
        if chunk:
            yield from self._part(opened, first, chunk, known)

    def _part(
        self, opened: OpenBatch, first: int, chunk: Sequence[Item], known: dict[int, str]
    ) -> Iterator[Part]:
        self._lines = {item.record.index: item.line for item in chunk}
        good = [item.record for item in chunk if isinstance(item.record, Recipient)]
        part = opened.part(first, good)
        self._tally.duplicates += part.duplicates
        bad = [item.record for item in chunk if isinstance(item.record, Rejected)]
        for reject in sorted([*bad, *part.rejected], key=lambda reject: reject.index):
            self._reject(reject)
        if first in known:
            if known[first] != part.check:
                raise self._changed(first)
            self._count(part, resumed=True)
        elif part.accepted:
            yield part

    def _count(self, part: Part, *, resumed: bool) -> None:
        if resumed:
            self._tally.resumed += part.accepted
        else:
            self._tally.accepted += part.accepted
        for carrier, count in part.carriers.items():
            self._tally.carriers[carrier] = self._tally.carriers.get(carrier, 0) + count

    def _reject(self, reject: Rejected) -> None:
        self._tally.rejected += 1
        try:
            self._rejects.add(self._lines[reject.index], reject)
        except OSError as error:
            raise Cut(f"--rejects {self._options.rejects}: {error.strerror}") from None

    async def _finish(self, store: Store, batch: str) -> BatchView | None:
        answered = time.monotonic()
        with self._progress.waiting_for(batch) as shown:
            while True:
                try:
                    view = await store.inspector.batch(batch)
                    if view is None or view.counts["queued"] + view.counts["scheduled"] == 0:
                        return view
                    shown(view)
                    answered = time.monotonic()
                except StoreUnavailable as error:
                    if time.monotonic() - answered > PATIENCE:
                        raise
                    self._progress.waiting(str(error))
                await asyncio.sleep(0.25)

    def _report(self, batch: str | None, view: BatchView | None = None) -> int:
        tally = self._tally
        if self._options.as_json:
            found = {
                "batch": batch,
                "accepted": tally.accepted + tally.resumed,
                "resumed": tally.resumed,
                "rejected": tally.rejected,
                "duplicates": tally.duplicates,
                "carriers": tally.carriers,
                "counts": view.counts if view else None,
            }
            click.echo(msgspec.json.encode(found).decode())
        else:
            self._report_plain(view)
        failed = tally.rejected or (view and (view.counts["dead"] or view.counts["unknown"]))
        return 1 if failed else 0

    def _report_plain(self, view: BatchView | None) -> None:
        tally = self._tally
        verb = "would be accepted" if self._options.dry_run else "accepted"
        notes = [f"{tally.accepted + tally.resumed} {verb}", f"{tally.rejected} rejected"]
        if tally.resumed:
            notes.append(f"{tally.resumed} of them before")
        if self._options.submission.dedupe:
            notes.append(f"{tally.duplicates} duplicates left out")
        click.echo(", ".join(notes))
        if self._options.dry_run:
            for carrier, count in sorted(tally.carriers.items(), key=lambda item: -item[1]):
                click.echo(f"  {carrier:<24} {count}")
        if view is not None:
            shown = (f"{count} {name}" for name, count in view.counts.items() if count)
            click.echo(", ".join(shown))
