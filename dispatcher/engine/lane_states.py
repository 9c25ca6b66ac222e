"""Every lane as operators see it, and which lanes they may name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

from dispatcher.engine.waiting import Standing, moment, reason
from dispatcher.errors import UsageError
from dispatcher.messages import Lane
from dispatcher.store.inspector import Inspector, LaneView
from dispatcher.store.operations import FOREVER, Action, Operations, Suspended
from dispatcher.store.suspensions import FOREVER_US, Suspension, covers
from dispatcher.units import DURATION, parse_duration

UNSERVED_SECONDS = 60.0
"""A provider that nobody configures and no worker has claimed of for so long is orphaned."""
REASON_MOST = 500
"""Characters of a reason."""
_PATTERN = re.compile(r"[^\s{}\x00-\x1f]{1,200}")


class LaneStates(NamedTuple):
    """The lanes of all providers; `suspended` are the patterns that operators have suspended."""

    lanes: list[dict[str, Any]]
    suspended: list[dict[str, Any]]


async def lane_states(
    inspector: Inspector, configured: Collection[str], pattern: str = "*"
) -> LaneStates:
    """How every lane of a pattern stands; those of providers that are not `configured` and that no
    worker serves are orphaned. Raises UsageError, StoreUnavailable."""
    await check_provider(inspector, configured, pattern)
    served, now_us = await inspector.providers(), await inspector.now_us()
    providers = {*configured, *served}
    names = await inspector.lane_names(sorted(providers))
    views = await inspector.lanes(name for name in names if covers(pattern, name))
    limits = await inspector.limits({name for view in views for name in view.limits})
    breakers = {name: await inspector.breaker(name) for name in providers}
    orphaned = {
        name
        for name, at_us in served.items()
        if name not in configured and now_us - at_us > UNSERVED_SECONDS * 1e6
    }
    lanes = []
    for view in views:
        provider = Lane.parse(view.lane).provider
        met = tuple(limits[name] for name in view.limits if name in limits)
        waits = reason(Standing(view, met, breakers[provider], now_us))
        lanes.append(_lane(view, provider in orphaned, waits, now_us))
    suspensions = await inspector.suspensions()
    return LaneStates(lanes, [_suspension(item) for item in suspensions.holding])


async def lanes_of(inspector: Inspector, pattern: str) -> list[str]:
    """The lanes that a pattern holds for and that hold messages or were visited lately."""
    names = await inspector.lane_names(sorted(await inspector.providers()))
    return [lane for lane in names if covers(pattern, lane)]


async def suspend(
    inspector: Inspector,
    operations: Operations,
    configured: Iterable[str],
    seconds: float,
    action: Action,
) -> dict[str, Any]:
    """Suspend the lanes of an action. Raises UsageError, StoreUnavailable."""
    await check_provider(inspector, configured, action.on)
    done = await operations.suspend(action.on, seconds, action)
    return suspended_view(action.on, done, action.reason)


def lane_pattern(text: str) -> str:
    """What may stand for lanes. Raises UsageError."""
    if not _PATTERN.fullmatch(text):
        raise UsageError(
            f"LANE must be provider/channel/carrier, the beginning of it or a pattern with *, "
            f"up to 200 characters, got {text!r}"
        )
    return text


def lasting(text: str, name: str) -> float:
    """Seconds of "30m"; FOREVER for "forever". Raises UsageError that names what was given."""
    if text == "forever":
        return FOREVER
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise UsageError(f'{name} must be {DURATION}, or "forever", got {text!r}') from None
    if not seconds:
        raise UsageError(f"{name} must be more than 0s")
    return seconds


def lasting_words(text: str) -> str:
    """The same as the audit tells it."""
    return text if text == "forever" else f"for {text}"


def one_line(text: str, name: str) -> str:
    """A reason as it is kept. Raises UsageError for none."""
    found = " ".join(text.split())[:REASON_MOST]
    if not found:
        raise UsageError(f"{name} must say why: others will read it")
    return found


def suspended_view(pattern: str, done: Suspended, why: str) -> dict[str, Any]:
    """The answer to a suspend."""
    return {
        "lane": pattern,
        "until": None if done.until_us >= FOREVER_US else moment(done.until_us),
        "reason": why,
        "lanes": done.lanes,
    }


async def check_provider(inspector: Inspector, configured: Iterable[str], pattern: str) -> None:
    """What is done to lanes of a provider with a wrong name would do nothing. Raises UsageError for
    one that neither the configuration nor the store knows, StoreUnavailable."""
    provider = pattern.partition("/")[0]
    known = {*configured, *await inspector.providers()}
    if "*" in provider or provider in known:
        return
    near = get_close_matches(provider, sorted(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
    raise UsageError(f"there is no provider {provider}; {hint}")


def _lane(view: LaneView, orphaned: bool, waits: str | None, now_us: int) -> dict[str, Any]:
    lane = Lane.parse(view.lane)
    suspended = view.suspended_us > now_us
    ends = None if view.suspended_us >= FOREVER_US else moment(view.suspended_us)
    return {
        "lane": view.lane,
        "provider": lane.provider,
        "channel": lane.channel,
        "carrier": lane.carrier,
        "waiting": view.waiting,
        "depth": view.depth,
        "sent": view.sent,
        "retried": view.retried,
        "dead": view.dead,
        "limits": list(view.limits),
        "suspended": suspended,
        "suspended_until": ends if suspended else None,
        "reason": view.reason if suspended else None,
        "orphaned": orphaned,
        "waiting_for": f"no worker serves {lane.provider}" if orphaned else waits,
    }


def _suspension(item: Suspension) -> dict[str, Any]:
    until = None if item.forever else moment(item.until_us)
    return {"lane": item.pattern, "until": until, "reason": item.reason}
