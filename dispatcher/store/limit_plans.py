"""Limits, and which of them each lane meets, as the store is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from dispatcher.limits import Limit

T = TypeVar("T")
PORTION = 500
"""Limits or lanes that are written in one call: some ten milliseconds of the store's time."""

_pack = msgspec.msgpack.Encoder().encode


def limit_plans(
    limits: Iterable[Limit], lanes: Iterable[tuple[str, Sequence[str]]], *, lost: bool
) -> Iterator[bytes]:
    """What `limits.lua` is called with, one after another; `lanes` with the names of their limits,
    `lost` as in `Queue.write_limits`."""
    wanted = [_limit(limit) for limit in limits]
    known = [(lane, " ".join(names)) for lane, names in lanes]
    portions: list[tuple[Sequence[Any], Sequence[Any]]] = [(some, ()) for some in _cut(wanted)]
    portions += (((), some) for some in _cut(known))
    for some_limits, some_lanes in portions or [((), ())]:
        yield _pack({"lost": 1 if lost else 0, "limits": some_limits, "lanes": some_lanes})


def _cut(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + PORTION] for at in range(0, len(items), PORTION))


def _limit(limit: Limit) -> tuple[Any, ...]:
    ramp = " ".join(f"{interval:.6f}" for interval in limit.ramp)
    quotas = [(q.period, q.count, *map(float, q.ends)) for q in limit.quotas]
    segments = 1 if limit.segments else 0
    return (limit.name, float(limit.interval_us), limit.burst, segments, ramp, quotas)
