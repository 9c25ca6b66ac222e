"""Cuts accepted messages into entries, each of one lane, one route and, where segments count, one
cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from dispatcher.messages import ENTRY_MESSAGES, Envelope, Row, encode_body
from dispatcher.policy.routing import Limits, Route, pick_sender, sender_pool
from dispatcher.policy.segments import segments
from dispatcher.settings import SEGMENTED, Config
from dispatcher.store.queue import NewEntry

ENTRY_SECONDS = 0.1
"""An entry holds about what its lane may send in this time."""
CONTENT_CHARACTERS = 1000
"""Content that a message may cost its entry; those with more of it share an entry with others even
where their lane is slow."""
LANES_KNOWN = 16_384
"""Lanes whose limits are remembered. Submitters name carriers and senders, so there may be any
number."""


class KnownLane(NamedTuple):
    """A lane, its limits, and the longest intervals (us) of its messages and of their segments."""

    name: str
    limits: tuple[str, ...]
    message_us: float
    segment_us: float

    def entry_size(self, cost: int) -> int:
        """Messages of `cost` segments per entry."""
        slowest = max(self.message_us, self.segment_us * cost)
        if slowest <= 0:
            return ENTRY_MESSAGES
        return max(1, min(ENTRY_MESSAGES, round(ENTRY_SECONDS * 1e6 / slowest)))


@dataclass(slots=True)
class Group:
    """Rows that share their entries."""

    lane: KnownLane
    route: Route
    cost: int = 1
    rows: list[Row | tuple[Any, ...]] = field(default_factory=list)

    def entries(self, envelope: Envelope, due_us: int) -> Iterator[NewEntry]:
        """Cut the rows; `due_us` as in NewEntry."""
        envelope = msgspec.structs.replace(
            envelope, providers=self.route.providers, on_unknown=self.route.on_unknown
        )
        lane, content = self.lane.name, envelope.content
        heavy = (len(content.text or "") + len(content.html or "")) // CONTENT_CHARACTERS
        size = max(self.lane.entry_size(self.cost), min(heavy, ENTRY_MESSAGES))
        for at in range(0, len(self.rows), size):
            rows = self.rows[at : at + size]
            yield NewEntry(
                lane, envelope.class_, len(rows), self.cost, envelope.expires_us, due_us,
                encode_body(envelope, rows),
            )  # fmt: skip


class Way(NamedTuple):
    """What the messages of a batch with one carrier and route have in common: `lane` finds that of
    a literal, `senders` are the literals with lanes of their own, "" stands for all where none has;
    `counted`: some limit on the route counts their segments."""

    route: Route
    lane: Callable[[str], KnownLane]
    senders: Sequence[str]
    counted: bool


class Fork:
    """The messages of one part with one carrier and route. `only` is the group of all of them, None
    where each message must be looked at (`group`)."""

    __slots__ = ("_groups", "_way", "only")

    def __init__(self, way: Way) -> None:
        self._way = way
        self._groups: dict[tuple[str, int], Group] = {}
        split = way.counted or len(way.senders) > 1
        self.only = None if split else self._open(way.senders[0], 1)

    def group(self, to: str, text: str) -> Group:
        """Where a message belongs."""
        sender = pick_sender(self._way.senders, to)
        cost = segments(text) if self._way.counted else 1
        return self._groups.get((sender, cost)) or self._open(sender, cost)

    def groups(self) -> Iterable[Group]:
        """All of them."""
        return self._groups.values()

    def _open(self, sender: str, cost: int) -> Group:
        group = Group(self._way.lane(sender), self._way.route, cost)
        self._groups[sender, cost] = group
        return group


class Lanes:
    """The lanes of a configuration."""

    def __init__(self, config: Config, limits: Limits) -> None:
        self._senders = config.senders
        self._limits = limits
        self._find = lru_cache(LANES_KNOWN)(self._lane)

    def way(self, route: Route, channel: str, carrier: str, sender: str, tenant: str) -> Way:
        """`sender` is `from` as submitted."""
        provider = route.providers[0]
        own = self._limits.by_sender(provider, channel, carrier, tenant)
        return Way(
            route,
            lambda literal: self._find(provider, channel, carrier, literal, tenant),
            sender_pool(self._senders, sender, provider) if own else ("",),
            self._counted(route, channel, carrier, tenant),
        )

    def _counted(self, route: Route, channel: str, carrier: str, tenant: str) -> bool:
        """Failover takes a message along with its cost, so all providers count."""
        limits = self._limits
        return channel in SEGMENTED and any(
            limits.segments(limits.lane(provider, channel, carrier, "", tenant))
            for provider in route.providers
        )

    def _lane(
        self, provider: str, channel: str, carrier: str, sender: str, tenant: str
    ) -> KnownLane:
        lane = self._limits.lane(provider, channel, carrier, sender, tenant)
        return KnownLane(lane, self._limits.of(lane), *self._limits.spacing(lane))
