"""Turns recipients into entries: validate, find carrier and route, have them cut.

The work of a batch that is the same for all its messages is done once, in `Submission.open`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from dispatcher import failpoints
from dispatcher.engine.cutting import Fork, Lanes, Way
from dispatcher.errors import (
    ConfigError,
    InvalidMessage,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from dispatcher.exchange import Provider
from dispatcher.messages import CHANNELS, CLASSES, Content, Envelope
from dispatcher.policy.carriers import Carriers
from dispatcher.policy.recipients import normalise
from dispatcher.policy.routing import Limits, Route, Router
from dispatcher.settings import NAME, NAME_PATTERN, Config
from dispatcher.store.queue import Accepted, NewEntry, NewLane, Queue
from dispatcher.template import Template

log = logging.getLogger(__name__)

BEGINNING = -1
"""Number of the empty part that makes a batch known before its first record is accepted."""
_NAME = re.compile(NAME_PATTERN)


class Recipient(msgspec.Struct, frozen=True):
    """One record of a submission; `values` stand in the order of the batch's columns."""

    index: int
    to: str
    values: tuple[str | None, ...] = ()
    ref: str | None = None
    carrier: str | None = None


class Rejected(msgspec.Struct, frozen=True):
    """A record that was refused."""

    index: int
    code: str
    detail: str


class Part(NamedTuple):
    """Records ready to enqueue. `first` is the index of the first record, `check` a check value of
    all of them, `carriers` counts accepted messages by carrier, `duplicates` is how many were left
    out because their recipient was accepted before."""

    first: int
    check: str
    entries: list[NewEntry]
    lanes: list[NewLane]
    accepted: int
    rejected: list[Rejected]
    carriers: dict[str, int]
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submit call says once for all its recipients. Times in us, `ttl` in seconds. With
    `dedupe` a recipient that stands there twice gets one message."""

    channel: str
    sender: str
    content: Content
    class_: str = "normal"
    ttl: float | None = None
    send_at_us: int = 0
    tenant: str = "default"
    campaign: str | None = None
    dedupe: bool = False

    def fingerprint(self) -> str:
        """The same for the same submission, whenever it is made."""
        return f"{crc32(msgspec.msgpack.encode(self)):08x}"


class Ingest:
    """Checks submissions against a configuration. It knows no store."""

    def __init__(self, config: Config, providers: Mapping[str, Provider]) -> None:
        self.config = config
        self.providers = providers
        self.carriers = Carriers(
            {name: carrier.prefixes for name, carrier in config.carriers.items()}
        )
        channels = {name: provider.channels for name, provider in providers.items()}
        self.router = Router(config, channels)
        self.limits = Limits(config, batch_sizes(providers))
        self.lanes = Lanes(config, self.limits)

    def open(
        self, submission: Submission, columns: Sequence[str], batch: str, now_us: int
    ) -> OpenBatch:
        """Check what concerns the whole batch; `columns` are the parameters its records have.

        Raises InvalidMessage, UsageError.
        """
        _check_words(submission)
        self._check_class(submission)
        text = Template.compile(submission.content.text or "")
        names = _parameters(submission.content, text, columns)
        render = text.bind(names)
        self._check_content(submission)
        self.check_sender(submission.sender)
        accepted = max(now_us, submission.send_at_us)
        expires = accepted + int(submission.ttl * 1e6) if submission.ttl else 0
        envelope = Envelope(
            batch, submission.tenant, submission.channel, submission.class_, submission.sender,
            accepted, expires, submission.content, names, campaign=submission.campaign,
        )  # fmt: skip
        return OpenBatch(self, submission, envelope, render, columns)

    def _check_class(self, submission: Submission) -> None:
        tenant = self.config.tenants.get(submission.tenant)
        if tenant is not None and tenant.classes and submission.class_ not in tenant.classes:
            raise UsageError(
                f"class {submission.class_!r} is not open to tenant {submission.tenant}; "
                f"allowed: {', '.join(sorted(tenant.classes))}"
            )

    def _check_content(self, submission: Submission) -> None:
        """At least one provider of the channel must be able to carry it."""
        refusals = []
        for name, provider in self.providers.items():
            if submission.channel in provider.channels:
                try:
                    self.check_provider(name, submission)
                    return
                except InvalidMessage as error:
                    refusals.append(error)
        if refusals:
            raise refusals[0]
        raise InvalidMessage("no_route", f"no provider carries {submission.channel}")

    def check_provider(self, name: str, submission: Submission) -> None:
        """Whether a provider can carry the content and has the sender. Raises InvalidMessage."""
        self.providers[name].check(submission.channel, submission.content)
        sender = self.config.senders.get(submission.sender)
        if sender is not None and name not in sender:
            raise InvalidMessage(
                "invalid_sender", f"senders.{submission.sender} names no sender of {name}"
            )

    def check_sender(self, sender: str) -> None:
        """Whether `from` can be meant as it stands. Raises InvalidMessage."""
        if not sender:
            raise InvalidMessage("invalid_sender", "from is empty")
        known = self.config.senders.get(sender)
        if known is None and sender.isidentifier() and self.config.senders:
            literal = sender.isupper()
            if not literal:
                names = ", ".join(sorted(self.config.senders))
                raise InvalidMessage(
                    "invalid_sender",
                    f"from {sender!r} is no configured sender (known: {names})",
                )


class OpenBatch:
    """One batch being submitted."""

    def __init__(
        self,
        ingest: Ingest,
        submission: Submission,
        envelope: Envelope,
        render: Callable[[Sequence[str | None]], str],
        columns: Sequence[str],
    ) -> None:
        self.envelope = envelope
        self.submission = submission
        self.names = envelope.columns
        self._ingest = ingest
        self._render = render
        self._ways: dict[tuple[str, Route], Way] = {}
        self._routes: dict[Route, Route] = {}
        self._seen: set[int] = set()
        self._missing = [name for name in self.names if name not in columns]

    @property
    def missing(self) -> Sequence[str]:
        """Parameters of the text that no record has."""
        return self._missing

    def part(self, first: int, recipients: Sequence[Recipient]) -> Part:
        """Check records and cut the good ones into entries. Nothing is written."""
        forks: dict[tuple[str, Route], Fork] = {}
        rejected: list[Rejected] = []
        carriers: dict[str, int] = {}
        check = duplicates = 0
        for recipient in recipients:
            check = crc32(repr(recipient).encode("utf-8", "surrogateescape"), check)
            try:
                to, carrier, route, text = self._place(recipient)
            except InvalidMessage as error:
                rejected.append(Rejected(recipient.index, error.code, error.detail))
                continue
            if self._repeats(to):
                duplicates += 1
                continue
            fork = forks.get((carrier, route)) or self._fork(forks, carrier, route)
            (fork.only or fork.group(to, text)).rows.append(_row(recipient, to))
            carriers[carrier] = carriers.get(carrier, 0) + 1
        entries, lanes = self._cut(forks.values())
        accepted = len(recipients) - len(rejected) - duplicates
        return Part(first, f"{check:08x}", entries, lanes, accepted, rejected, carriers, duplicates)

    def _repeats(self, to: str) -> bool:
        """With `dedupe`: whether this recipient was accepted before."""
        if not self.submission.dedupe:
            return False
        mark, known = hash(to), len(self._seen)
        self._seen.add(mark)
        return len(self._seen) == known

    def _place(self, recipient: Recipient) -> tuple[str, str, Route, str]:
        channel, ingest = self.submission.channel, self._ingest
        to = normalise(channel, recipient.to)
        if None in recipient.values:
            name = self.names[recipient.values.index(None)]
            raise InvalidMessage("missing_parameter", f"the parameter {name!r} is missing")
        text = self._render(recipient.values)
        carrier = recipient.carrier
        if carrier is None:
            carrier = ingest.carriers.of(channel, to)
        elif not _NAME.match(carrier):
            raise InvalidMessage("invalid_carrier", f"carrier {carrier!r} must be {NAME}")
        route = self._usable(ingest.router.route(channel, to))
        most = ingest.providers[route.providers[0]].text_characters
        if most is not None and len(text) > most:
            raise InvalidMessage(
                "text_too_long",
                f"{len(text)} characters, {route.providers[0]} takes {most} at most",
            )
        return to, carrier, route, text

    def _usable(self, route: Route) -> Route:
        """The route without providers that cannot carry the content or have no such sender."""
        known = self._routes.get(route)
        if known is None:
            able, refusals = [], []
            for name in route.providers:
                try:
                    self._ingest.check_provider(name, self.submission)
                    able.append(name)
                except InvalidMessage as error:
                    refusals.append(error)
            if not able:
                raise refusals[0]
            known = self._routes[route] = route._replace(providers=tuple(able))
        return known

    def _fork(self, forks: dict[tuple[str, Route], Fork], carrier: str, route: Route) -> Fork:
        way = self._ways.get((carrier, route))
        if way is None:
            given = self.submission
            way = self._ways[carrier, route] = self._ingest.lanes.way(
                route, given.channel, carrier, given.sender, given.tenant
            )
        fork = forks[carrier, route] = Fork(way)
        return fork

    def _cut(self, forks: Iterable[Fork]) -> tuple[list[NewEntry], list[NewLane]]:
        tenant = self._ingest.config.tenants.get(self.submission.tenant)
        weight = 1.0 if tenant is None else float(tenant.weight)
        groups = [group for fork in forks for group in fork.groups()]
        lanes = {group.lane.name: group.lane.limits for group in groups}
        due_us = self.submission.send_at_us
        return (
            [entry for group in groups for entry in group.entries(self.envelope, due_us)],
            [NewLane(lane, limits, weight) for lane, limits in lanes.items()],
        )

    @property
    def _tenant_most(self) -> int:
        tenant = self._ingest.config.tenants.get(self.submission.tenant)
        return (tenant and tenant.max_queued) or 0

    def _check_fits(self, messages: int) -> None:
        bounds = {
            "[store]": self._ingest.config.store.max_queued,
            f"[tenants.{self.submission.tenant}]": self._tenant_most or messages,
        }
        for table, most in bounds.items():
            if messages > most:
                raise ConfigError(f"{table} max_queued = {most} is less than {messages} at a time")

    async def begin(self, queue: Queue, patience: float, waiting: Callable[[str], None]) -> None:
        """Make the batch known to the store, so that its id can be given away and resumed."""
        nothing = Part(BEGINNING, "", [], [], 0, [], {})
        await self.enqueue_patiently(queue, nothing, patience, waiting)

    async def enqueue(self, queue: Queue, part: Part) -> Accepted:
        """Write one part, at most once however often it is called. Raises StoreUnavailable."""
        failpoints.passed("before_enqueue")
        accepted = await queue.enqueue(
            self.envelope.batch,
            part.first,
            part.check,
            tenant=self.submission.tenant,
            channel=self.submission.channel,
            options=self.submission.fingerprint(),
            max_queued=self._ingest.config.store.max_queued,
            tenant_most=self._tenant_most,
            keep_seconds=self._ingest.config.retention.status,
            lanes=part.lanes,
            entries=part.entries,
        )
        failpoints.passed("after_enqueue")
        return accepted

    async def enqueue_patiently(
        self, queue: Queue, part: Part, patience: float, waiting: Callable[[str], None]
    ) -> Accepted:
        """Like `enqueue`, but an unreachable store is waited for (`patience` seconds), and a full
        one as long as it takes; `waiting` is told why. Raises StoreUnavailable, ConfigError."""
        self._check_fits(part.accepted)
        pause, waited = 0.1, 0.0
        while True:
            try:
                return await self.enqueue(queue, part)
            except StoreFull as error:
                waiting(str(error))
            except StoreUnavailable as error:
                waiting(str(error))
                waited += pause
                if waited > patience:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)


def batch_sizes(providers: Mapping[str, Provider]) -> dict[str, int]:
    """Messages a request of each provider may carry."""
    return {name: provider.batch for name, provider in providers.items()}


def _parameters(content: Content, text: Template, columns: Sequence[str]) -> tuple[str, ...]:
    """The parameters a message needs: those of its texts; a provider's template gets them all."""
    if content.template is not None:
        return tuple(columns)
    others = (Template.compile(source) for source in (content.subject, content.html) if source)
    return tuple(dict.fromkeys(name for template in (text, *others) for name in template.names))


def _row(recipient: Recipient, to: str) -> tuple[Any, ...]:
    """As short as it can be: trailing defaults are left out."""
    if recipient.ref is not None:
        return (recipient.index, to, recipient.values, recipient.ref)
    if recipient.values:
        return (recipient.index, to, recipient.values)
    return (recipient.index, to)


def _check_words(submission: Submission) -> None:
    if submission.channel not in CHANNELS:
        raise UsageError(f"channel {submission.channel!r} is not one of {', '.join(CHANNELS)}")
    if submission.class_ not in CLASSES:
        raise UsageError(f"class {submission.class_!r} is not one of {', '.join(CLASSES)}")
    if (submission.content.text is None) == (submission.content.template is None):
        raise UsageError("content must have exactly one of text and template")
    if not _NAME.match(submission.tenant):
        raise UsageError(f"tenant {submission.tenant!r} must be {NAME}")
