"""Which providers may take a message, in which order; its lane, and the limits it meets there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias
from urllib.parse import quote
from zlib import crc32
from zoneinfo import ZoneInfo

from dispatcher.errors import InvalidMessage
from dispatcher.limits import CalendarQuota, Limit, period_ends
from dispatcher.settings import (
    MAIN_CELL,
    CarrierConfig,
    Config,
    LimitConfig,
    ProviderConfig,
    RouteConfig,
    SenderConfig,
    TenantConfig,
)
from dispatcher.shares import share_of_count, shares_of
from dispatcher.units import Rates

PLACES_KNOWN = 8192
"""Places whose marks are remembered. Submitters name carriers, so there may be any number."""

_Rated: TypeAlias = ProviderConfig | CarrierConfig | TenantConfig | LimitConfig


class Route(NamedTuple):
    """Providers in failover order, the first being where the message starts."""

    providers: tuple[str, ...]
    on_unknown: str | None = None


class _Rule(NamedTuple):
    matches: Callable[[str], bool]
    fixed: Route | None
    weighted: tuple[tuple[str, int], ...]
    on_unknown: str | None

    def route(self, to: str) -> Route:
        if self.fixed is not None:
            return self.fixed
        names = [name for name, _ in self.weighted]
        # The upper bits: `pick_sender` uses the lower ones, and the two choices must not agree.
        point = crc32(to.encode()) * sum(weight for _, weight in self.weighted) >> 32
        for at, (_, weight) in enumerate(self.weighted):
            if point < weight:
                names.insert(0, names.pop(at))
                break
            point -= weight
        return Route(tuple(names), self.on_unknown)


class Router:
    """Finds the route of a message; `channels` says what each provider can carry."""

    def __init__(self, config: Config, channels: Mapping[str, frozenset[str]]) -> None:
        self._routes = config.routes
        self._channels = channels
        self._rules = lru_cache(maxsize=None)(self._rules_for)

    def route(self, channel: str, to: str) -> Route:
        """The first matching `[[routes]]` table; without any table every provider of the channel in
        the order of the file. Raises InvalidMessage("no_route")."""
        for rule in self._rules(channel):
            if rule.matches(to):
                return rule.route(to)
        raise InvalidMessage("no_route", f"no route and no provider for {channel} to {to}")

    def _rules_for(self, channel: str) -> Sequence[_Rule]:
        able = tuple(name for name, known in self._channels.items() if channel in known)
        if not self._routes:
            return [_Rule(_glob("*"), Route(able), (), None)] if able else []
        rules = (_rule(route, able) for route in self._routes if route.channel in (None, channel))
        return [rule for rule in rules if rule is not None]


def _rule(config: RouteConfig, able: Sequence[str]) -> _Rule | None:
    """None when no provider of the table carries the channel."""
    chosen = [choice for choice in config.providers if choice.name in able]
    if not chosen:
        return None
    fixed = None
    if chosen[0].weight is None:
        fixed = Route(tuple(choice.name for choice in chosen), config.on_unknown)
    weighted = tuple((choice.name, choice.weight or 1) for choice in chosen)
    return _Rule(_glob(config.to), fixed, weighted, config.on_unknown)


def _glob(pattern: str) -> Callable[[str], bool]:
    """`*` stands for anything; the common `+49*` and `*` need no regular expression."""
    if pattern == "*":
        return lambda _: True
    head, star, tail = pattern.partition("*")
    if star and not tail:
        return lambda text: text.startswith(head)
    match = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch
    return lambda text: match(text) is not None


class _Place(NamedTuple):
    """What a lane says of its messages; sender and tenant, if at all, as they stand in its name."""

    provider: str
    channel: str
    carrier: str
    sender: str | None = None
    tenant: str | None = None

    @classmethod
    def parse(cls, lane: str) -> _Place:
        provider, channel, carrier, *marks = lane.split("/")
        given = dict(mark.split("=", 1) for mark in marks if "=" in mark)
        return cls(provider, channel, carrier, given.get("sender"), given.get("tenant"))

    def value(self, each: str) -> str | None:
        value: str | None = getattr(self, each, None)
        return value


class _Asked(NamedTuple):
    """What a table asks of its limits. `carried` messages share a unit of it."""

    table: _Rated
    zone: ZoneInfo
    carried: int = 1

    def limit(self, name: str, now_us: int, share: float) -> Limit:
        table, carried = self.table, self.carried
        return Limit(
            name,
            _interval(table.rate) / carried / share,
            max(1, share_of_count(table.burst * carried, share)),
            isinstance(table, LimitConfig) and table.unit == "segment",
            tuple(rate.interval_us / carried / share for rate in table.ramp),
            tuple(
                CalendarQuota(
                    share_of_count(quota.count * carried, share),
                    quota.period,
                    period_ends(quota.period, now_us, self.zone),
                )
                for quota in table.rate.quotas
            ),
        )

    def slowest(self) -> float:
        """The longest interval (us) between two of its units, now or later."""
        return max([_interval(self.table.rate), *(rate.interval_us for rate in self.table.ramp)])


class Limits:
    """The limits of a configuration: how lanes are named for them, and which of them a lane meets.

    `batches` is how many messages a request of each provider may carry. A limit in requests is kept
    in messages, that many to a request; lanes that meet one send whole requests only (`whole`).

    A limit over providers of several cells is kept in each of them, with a share of its rate.
    """

    def __init__(self, config: Config, batches: Mapping[str, int]) -> None:
        self._tables = config.limits
        self._batches = batches
        self._tenants = {name for name, item in config.tenants.items() if item.rate.texts}
        self._carriers = {name for name, item in config.carriers.items() if item.rate.texts}
        self._asked = dict(_asked(config, batches))
        self._cells = {name: item.cell for name, item in config.providers.items()}
        self._shares = dict(_shares(config))
        self._marks = lru_cache(PLACES_KNOWN)(self._marks_of)

    def lane(self, provider: str, channel: str, carrier: str, sender: str, tenant: str) -> str:
        """The lane of a message. `sender` is what its recipient sees; it and the tenant are part of
        the name only where a limit needs them."""
        by_sender, by_tenant = self._marks(provider, channel, carrier, tenant)
        lane = f"{provider}/{channel}/{carrier}"
        if by_sender:
            lane += f"/sender={encode(sender)}"
        return f"{lane}/tenant={tenant}" if by_tenant else lane

    def by_sender(self, provider: str, channel: str, carrier: str, tenant: str) -> bool:
        """Whether each sender has a lane of its own there."""
        return self._marks(provider, channel, carrier, tenant)[0]

    def of(self, lane: str) -> tuple[str, ...]:
        """Names of the limits of one lane. The provider's own limit is the first and always there,
        be it without a rate: it is what a provider's "slow down" pauses."""
        place = _Place.parse(lane)
        names = [f"provider:{place.provider}"]
        if place.carrier in self._carriers:
            names.append(f"carrier:{place.carrier}")
        if place.tenant in self._tenants:
            names.append(f"tenant:{place.tenant}")
        for table in self._met(place):
            if table.each is None:
                names.append(table.name)
            elif value := place.value(table.each):
                names.append(f"{table.name}/{value}")
        return tuple(names)

    def recipient(self, lane: str) -> tuple[Limit, ...]:
        """The limits that each recipient of a lane has for itself. No other function names them."""
        return tuple(
            self._asked[table.name].limit(table.name, 0, 1.0)
            for table in self._met(_Place.parse(lane))
            if table.each == "recipient"
        )

    def whole(self, lane: str) -> bool:
        """Whether a lane meets a limit in requests."""
        return any(table.unit == "request" for table in self._met(_Place.parse(lane)))

    def probe(self, provider: str) -> int:
        """Messages that go to a provider to see whether it is back: one, or one whole request."""
        tables = [table for table in self._tables if table.provider == provider]
        whole = any(table.unit == "request" for table in tables)
        return self._batches.get(provider, 1) if whole else 1

    def segments(self, lane: str) -> bool:
        """Whether a lane meets a limit in segments."""
        return any(table.unit == "segment" for table in self._met(_Place.parse(lane)))

    def spacing(self, lane: str) -> tuple[float, float]:
        """The longest intervals (us) a lane may have to keep: between two messages, by its limits
        in messages or requests, and between two segments. 0 without a limit."""
        found = [0.0, 0.0]
        cell = self._cells.get(lane.partition("/")[0], MAIN_CELL)
        for name in self.of(lane):
            asked = self._asked.get(name.partition("/")[0])
            if asked is not None:
                at = isinstance(asked.table, LimitConfig) and asked.table.unit == "segment"
                share = self.shares(name).get(cell, 1.0)
                found[at] = max(found[at], asked.slowest() / asked.carried / share)
        return found[0], found[1]

    def definitions(self, now_us: int, cell: str | None = None) -> list[Limit]:
        """Every limit known without its `each` value; those of one cell with its shares."""
        each = {table.name for table in self._tables if table.each is not None}
        found = (self.define(name, now_us, cell) for name in self._asked if name not in each)
        return [limit for limit in found if limit is not None]

    def define(self, name: str, now_us: int, cell: str | None = None) -> Limit | None:
        """The definition of one limit by name, `each` values included: the whole, or what a cell
        has of it. None for an unknown one, and where the cell has nothing to do with it."""
        asked = self._asked.get(name.partition("/")[0])
        if asked is None or ("/" in name) != (getattr(asked.table, "each", None) is not None):
            return None
        share = 1.0 if cell is None else self.shares(name).get(cell)
        return None if share is None else asked.limit(name, now_us, share)

    def shares(self, name: str) -> Mapping[str, float]:
        """What each cell has of a limit, which is there by this name in all of them."""
        table, _, value = name.partition("/")
        each = getattr(self._asked[table].table, "each", None) if table in self._asked else None
        if each == "provider":
            return {self._cells.get(value, MAIN_CELL): 1.0}
        return self._shares.get(table, {})

    def _marks_of(
        self, provider: str, channel: str, carrier: str, tenant: str
    ) -> tuple[bool, bool]:
        met = list(self._met(_Place(provider, channel, carrier, None, tenant)))
        by_tenant = any(table.tenant is not None or table.each == "tenant" for table in met)
        return any(table.each == "sender" for table in met), by_tenant or tenant in self._tenants

    def _met(self, place: _Place) -> Iterator[LimitConfig]:
        """The tables that hold for a place, whatever their `each`."""
        for table in self._tables:
            wanted = (table.provider, table.channel, table.carrier, table.tenant)
            actual = (place.provider, place.channel, place.carrier, place.tenant)
            if all(want in (None, have) for want, have in zip(wanted, actual, strict=True)):
                yield table


def _asked(config: Config, batches: Mapping[str, int]) -> Iterator[tuple[str, _Asked]]:
    named: dict[str, Mapping[str, _Rated]] = {
        "provider": config.providers,
        "carrier": {name: item for name, item in config.carriers.items() if item.rate.texts},
        "tenant": {name: item for name, item in config.tenants.items() if item.rate.texts},
    }
    for kind, tables in named.items():
        for name, table in tables.items():
            yield f"{kind}:{name}", _Asked(table, ZoneInfo(table.timezone))
    for item in config.limits:
        carried = batches.get(item.provider or "", 1) if item.unit == "request" else 1
        yield item.name, _Asked(item, ZoneInfo(item.timezone), carried)


def _shares(config: Config) -> Iterator[tuple[str, Mapping[str, float]]]:
    for name, provider in config.providers.items():
        yield f"provider:{name}", {provider.cell: 1.0}
    for name, carrier in config.carriers.items():
        yield f"carrier:{name}", shares_of(config, carrier)
    for name, tenant in config.tenants.items():
        yield f"tenant:{name}", shares_of(config, tenant)
    for limit in config.limits:
        yield limit.name, shares_of(config, limit)


def encode(value: str) -> str:
    """A text as part of the name of a lane or limit."""
    return quote(value, safe="+@").replace("~", "%7E")


def _interval(rates: Rates) -> float:
    """Microseconds per unit of the slowest rate; 0 without one."""
    return max((rate.interval_us for rate in rates), default=0.0)


def sender_pool(senders: Mapping[str, SenderConfig], sender: str, provider: str) -> tuple[str, ...]:
    """What recipients may see of a sender at a provider: of a configured one its literals there."""
    return senders.get(sender, {}).get(provider, (sender,))


def pick_sender(choices: Sequence[str], to: str) -> str:
    """One of a pool of senders, always the same for the same recipient."""
    return choices[0] if len(choices) == 1 else choices[crc32(to.encode()) % len(choices)]


def of_lane(choices: Sequence[str], lane: str) -> Sequence[str]:
    """The one of a pool that a lane is for. All of them where it is for none, or for one that has
    left the pool since."""
    named = lane.partition("/sender=")[2].partition("/")[0]
    return [choice for choice in choices if encode(choice) == named] or choices
