"""How a carrier's limit was kept and used, from the arrivals at its provider."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from dispatcher.cli.demo_check import Arrival

LAG = 0.05
"""Seconds by which a paced limit may run ahead: the promise is `burst + rate * LAG` at once."""
MEASURED = 1.0
"""Seconds a backlog must last before its rate means something."""


class Use(NamedTuple):
    """How a carrier's limit was kept and used. `rate` (per second) and `used` (a share of the
    limit) leave out the pauses the provider asked for and the tail of retries; `burst` is the most
    that came at once, in messages, against the `promised`. Without a backlog for a second `rate`
    and `used` are None."""

    arrivals: int
    rate: float | None
    used: float | None
    burst: float
    promised: float


def measure(
    rate: float,
    arrivals: Sequence[Arrival],
    pauses: Sequence[tuple[int, int]],
    campaign: Container[str],
    request: float = 0.0,
) -> Use:
    """`arrivals` of one carrier in order of arrival, `pauses` as (start, end) in ns. The recipients
    of the `campaign` are its backlog. `request` is the most messages in one request, where it may
    carry several."""
    times = [arrival.arrived_ns for arrival in arrivals]
    promised = 1 + rate * LAG + request
    end = _last_first_attempt(one for one in arrivals if one.to in campaign)
    paced = [at for at in times if at <= end]
    start = paced[0] if paced else 0
    paused = sum(max(0, min(end, stop) - max(start, begin)) for begin, stop in pauses)
    seconds = (end - start - paused) / 1e9
    found = sum(at > start for at in paced) / seconds if seconds >= MEASURED else None
    used = None if found is None else found / rate
    return Use(len(times), found, used, worst_burst(times, rate), promised)


def _last_first_attempt(arrivals: Iterable[Arrival]) -> int:
    """When the last message came that had not come before: from then on there is no backlog."""
    seen: set[str] = set()
    last = 0
    for arrival in arrivals:
        if arrival.to not in seen:
            seen.add(arrival.to)
            last = arrival.arrived_ns
    return last


def worst_burst(times_ns: Sequence[int], rate: float) -> float:
    """The highest level of a bucket that each arrival fills by one and that runs out at `rate`."""
    level = worst = 0.0
    before = times_ns[0] if times_ns else 0
    for at in times_ns:
        level = max(0.0, level - rate * (at - before) / 1e9) + 1
        worst, before = max(worst, level), at
    return worst


def pauses(arrivals: Iterable[Arrival], code: str, seconds: float) -> list[tuple[int, int]]:
    """The spans (ns) in which the provider had asked for less, each refusal with `code` asking for
    so many seconds; overlapping ones are one."""
    spans: list[tuple[int, int]] = []
    length = int(seconds * 1e9)
    for arrival in arrivals:
        if arrival.code != code:
            continue
        start, end = arrival.arrived_ns, arrival.arrived_ns + length
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans
