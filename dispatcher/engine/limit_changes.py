"""A rate that an operator puts above the configuration, by name: the same for the command and for
HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

from dispatcher.engine.runtime import write_limits
from dispatcher.errors import DispatcherError
from dispatcher.policy.routing import Limits
from dispatcher.settings import Config
from dispatcher.store.limit_views import LimitView
from dispatcher.store.opening import Store
from dispatcher.store.operations import UNTIL_RESET, Action, Operations


class UnknownLimit(DispatcherError):
    """There is no limit of this name."""


class LimitChange(NamedTuple):
    """A limit before and after a change."""

    before: LimitView
    after: LimitView


async def change_limit(
    config: Config,
    store: Store,
    limits: Limits,
    action: Action,
    interval_us: float | None,
    seconds: float = UNTIL_RESET,
) -> LimitChange:
    """Set (or with None reset) the limit of an action. Raises UnknownLimit, StoreUnavailable."""
    name = action.on
    before = await known_limit(config, store, limits, name)
    for cell, share in (limits.shares(name) or dict.fromkeys(store.cells, 1.0)).items():
        operations = Operations(store.client, store.cells[cell].keys)
        if interval_us is None:
            await operations.reset_limit(name, action)
        else:
            await operations.set_limit(name, interval_us / share, seconds, action)
    return LimitChange(before, await known_limit(config, store, limits, name))


async def known_limit(config: Config, store: Store, limits: Limits, name: str) -> LimitView:
    """The state of a limit. One that no process has written yet is written first. Raises
    UnknownLimit, StoreUnavailable."""
    found = await store.inspector.limits([name])
    if name not in found:
        defined = {limit.name for limit in limits.definitions(await store.inspector.now_us())}
        if name not in defined:
            raise _unknown(config, name, {*defined, *await store.inspector.limit_names()})
        await write_limits(store, limits, (), [name])
        found = await store.inspector.limits([name])
    return found[name]


def _unknown(config: Config, name: str, known: Iterable[str]) -> UnknownLimit:
    """The error that says what there is instead."""
    each = {limit.name: limit.each for limit in config.limits}.get(name)
    if each is not None:
        return UnknownLimit(f"{name} is one limit per {each}: name one of them, {name}/VALUE")
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`dispatcher limits` lists them"
    return UnknownLimit(f"there is no limit {name}; {hint}")
