"""Which providers may take a message, in which order, and which limits its lane meets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from dispatcher.errors import InvalidMessage
from dispatcher.settings import Config, LimitConfig, RouteConfig
from dispatcher.units import Rates


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


class Limits:
    """The limits of a configuration and which of them a lane meets.

    `batches` is how many messages a request of each provider may carry. A limit in requests is kept
    in messages, that many to a request; lanes that meet one send whole requests only (`whole`).
    """

    def __init__(self, config: Config, batches: Mapping[str, int]) -> None:
        self._config = config
        self._batches = batches

    def of(self, provider: str, channel: str, carrier: str) -> tuple[str, ...]:
        """Names of the limits of one lane. The provider's own limit is always there, be it without
        a rate: it is what a provider's "slow down" pauses."""
        names = [f"provider:{provider}"]
        configured = self._config.carriers.get(carrier)
        if configured is not None and configured.rate:
            names.append(f"carrier:{carrier}")
        values = {"provider": provider, "channel": channel, "carrier": carrier}
        names += (_name(limit, values) for limit in self._config.limits if _meets(limit, values))
        return tuple(names)

    def whole(self, provider: str, channel: str, carrier: str) -> bool:
        """Whether a lane meets a limit in requests."""
        values = {"provider": provider, "channel": channel, "carrier": carrier}
        return any(
            limit.unit == "request" and _meets(limit, values) for limit in self._config.limits
        )

    def definitions(self) -> list[tuple[str, float, int]]:
        """Every limit known without its `each` value: (name, interval in us per unit, burst)."""
        config = self._config
        found = [
            (f"provider:{name}", _interval(item.rate), item.burst)
            for name, item in config.providers.items()
        ]
        found += [
            (f"carrier:{name}", _interval(item.rate), item.burst)
            for name, item in config.carriers.items()
            if item.rate
        ]
        found += [(item.name, *self._spacing(item)) for item in config.limits if item.each is None]
        return found

    def define(self, name: str) -> tuple[str, float, int] | None:
        """The definition of one limit by name, `each` values included; None for an unknown one."""
        for known in self.definitions():
            if known[0] == name:
                return known
        for item in self._config.limits:
            if item.each is not None and name.startswith(f"{item.name}/"):
                return (name, *self._spacing(item))
        return None

    def _spacing(self, limit: LimitConfig) -> tuple[float, int]:
        """Interval (us) and burst of a `[[limits]]` table, in messages."""
        carried = self._batches.get(limit.provider or "", 1) if limit.unit == "request" else 1
        return _interval(limit.rate) / carried, limit.burst * carried


def _meets(limit: LimitConfig, values: Mapping[str, str]) -> bool:
    wanted = (limit.provider, limit.channel, limit.carrier)
    actual = (values["provider"], values["channel"], values["carrier"])
    return all(want in (None, have) for want, have in zip(wanted, actual, strict=True))


def _name(limit: LimitConfig, values: Mapping[str, str]) -> str:
    return f"{limit.name}/{values[limit.each]}" if limit.each else limit.name


def _interval(rates: Rates) -> float:
    """Microseconds per unit of the slowest rate; 0 without one."""
    return max((rate.interval_us for rate in rates), default=0.0)


def pick_sender(choices: Sequence[str], to: str) -> str:
    """One of a pool of senders, always the same for the same recipient."""
    return choices[0] if len(choices) == 1 else choices[crc32(to.encode()) % len(choices)]
