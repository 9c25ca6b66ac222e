"""Takes what waits in lanes to another provider: lanes, limits and senders are chosen anew,
tenants, classes and times stay.

Each entry moves at once or not at all, so whoever is interrupted begins again and moves the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from dispatcher.engine.cutting import Fork, Group
from dispatcher.engine.ingest import Ingest, Submission
from dispatcher.engine.lane_states import check_provider, lanes_of
from dispatcher.errors import InvalidMessage, UsageError
from dispatcher.messages import Envelope, Lane, Row, UnknownFormat, decode_body
from dispatcher.policy.routing import Route
from dispatcher.store.inspector import Inspector
from dispatcher.store.moving import Moving, NewPlace, Target, Waiting
from dispatcher.store.operations import Action
from dispatcher.template import Template


class MoveReport(NamedTuple):
    """Messages that were moved, by the lane they left; those that the provider cannot carry and
    that stay, by the reason; and by their lane those that a worker has."""

    moved: Counter[str]
    left: Counter[str]
    held: Counter[str]

    @property
    def messages(self) -> int:
        """All that were met."""
        return self.moved.total() + self.left.total() + self.held.total()


class Mover:
    """Moves to one provider of a configuration. Raises UsageError for another one."""

    def __init__(self, ingest: Ingest, moving: Moving, provider: str, action: Action) -> None:
        if provider not in ingest.providers:
            known = ", ".join(ingest.providers) or "none"
            raise UsageError(f"there is no provider {provider}; configured: {known}")
        self._ingest = ingest
        self._moving = moving
        self._provider = provider
        self._action = action

    @property
    def known(self) -> Collection[str]:
        """The providers of the configuration."""
        return self._ingest.providers

    async def move(self, pattern: str, lanes: Iterable[str]) -> MoveReport:
        """Move what waits in these lanes, and what waits for its time in those of the pattern.
        Raises StoreUnavailable."""
        report = MoveReport(Counter(), Counter(), Counter())
        for lane in lanes:
            if not self._owns(lane):
                async for page in self._moving.waiting(lane):
                    await self._move(lane, page, report)
        async for page in self._moving.scheduled(pattern):
            for lane in {waiting.lane for waiting in page if not self._owns(waiting.lane)}:
                await self._move(lane, [one for one in page if one.lane == lane], report)
        await self._moving.carry(self._ingest.config.retention.status)
        return report

    def _owns(self, lane: str) -> bool:
        return Lane.parse(lane).provider == self._provider

    async def _move(self, lane: str, page: Sequence[Waiting], report: MoveReport) -> None:
        entries: list[tuple[Waiting, list[NewPlace]]] = []
        targets: dict[tuple[str, str], Target] = {}
        for waiting in page:
            try:
                entries.append((waiting, self._cut(waiting, targets)))
            except (InvalidMessage, UnknownFormat) as error:
                report.left[str(error)] += waiting.messages
        if entries:
            done = await self._moving.move(lane, entries, targets.values(), self._action)
            report.moved[lane] += done.messages
            report.held[lane] += done.missed

    def _cut(self, waiting: Waiting, targets: dict[tuple[str, str], Target]) -> list[NewPlace]:
        """The entries that one becomes. Raises InvalidMessage, UnknownFormat."""
        envelope, rows = decode_body(waiting.body)
        self._check(envelope, rows)
        unclear = waiting.ambiguous or 0
        put_back = waiting.ambiguous is not None or waiting.reclaims is not None
        found = []
        for group in self._groups(waiting.lane, envelope, rows[:unclear]):
            self._add(targets, group, envelope.tenant)
            found += [NewPlace(e, e.count, waiting.reclaims) for e in group.entries(envelope, 0)]
        for group in self._groups(waiting.lane, envelope, rows[unclear:]):
            self._add(targets, group, envelope.tenant)
            none = 0 if put_back else None
            found += [NewPlace(e, none, waiting.reclaims) for e in group.entries(envelope, 0)]
        return found

    def _groups(self, lane: str, envelope: Envelope, rows: Sequence[Row]) -> Iterable[Group]:
        """The rows by their new lanes."""
        if not rows:
            return ()
        _, channel, carrier = Lane.parse(lane)
        route = Route(self._order(lane, envelope), envelope.on_unknown)
        fork = Fork(
            self._ingest.lanes.way(route, channel, carrier, envelope.sender, envelope.tenant)
        )
        render = _renderer(envelope)
        for row in rows:
            group = fork.only or fork.group(row.to, render(row.values))
            group.rows.append(row)
        return fork.groups()

    def _add(self, targets: dict[tuple[str, str], Target], group: Group, tenant: str) -> None:
        known = self._ingest.config.tenants.get(tenant)
        weight = 1.0 if known is None else float(known.weight)
        lane = group.lane
        targets[lane.name, tenant] = Target(lane.name, lane.limits, tenant, weight)

    def _check(self, envelope: Envelope, rows: Sequence[Row]) -> None:
        """Whether the provider can carry all of an entry. Raises InvalidMessage."""
        if envelope.channel not in self._ingest.providers[self._provider].channels:
            raise InvalidMessage("no_route", f"{self._provider} carries no {envelope.channel}")
        asked = Submission(envelope.channel, envelope.sender, envelope.content)
        self._ingest.check_provider(self._provider, asked)
        most = self._ingest.providers[self._provider].text_characters
        if most is None:
            return
        render = _renderer(envelope)
        if any(len(render(row.values)) > most for row in rows):
            raise InvalidMessage("text_too_long", f"{self._provider} takes {most} characters")

    def _order(self, lane: str, envelope: Envelope) -> tuple[str, ...]:
        """The failover order from here on."""
        order, source = envelope.providers, Lane.parse(lane).provider
        if self._provider in order:
            return order[order.index(self._provider) :]
        others = (name for name in order if name != source and name in self._ingest.providers)
        return (self._provider, *others)


async def move_lanes(inspector: Inspector, mover: Mover, pattern: str) -> dict[str, Any]:
    """Move what waits in the lanes of a pattern; what was moved, as users see it. Raises UsageError
    where there is nothing of a provider that nobody knows, StoreUnavailable."""
    report = await mover.move(pattern, await lanes_of(inspector, pattern))
    if not report.messages:
        await check_provider(inspector, mover.known, pattern)
    return {
        "messages": report.moved.total(),
        "lanes": dict(sorted((+report.moved).items())),
        "left": dict(sorted(report.left.items())),
        "held": report.held.total(),
    }


def _renderer(envelope: Envelope) -> Callable[[Sequence[str | None]], str]:
    return Template.compile(envelope.content.text or "").bind(envelope.columns)
