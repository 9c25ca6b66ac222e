"""What arrival times say about a limit: the worst burst, how much of the rate was used, fairness.

Times are in seconds and ascend; a cost is what an arrival takes from the limit, in its unit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SLOT_SECONDS = 0.05
"""How late a slot may still be used where the limit paces every lane under it."""
MIXED_SECONDS = 0.2
"""The same where slower limits pace some of the lanes."""


class Arrival(NamedTuple):
    """One message; `first` and `last` are when its request began and was complete."""

    first: float
    last: float
    path: str
    sender: str
    to: int
    accepted: bool


class Check(NamedTuple):
    """One line of a table."""

    what: str
    asked: str
    seen: float
    kept: bool


def worst_burst(times: Sequence[float], costs: Sequence[float], rate: float) -> float:
    """The largest excess of any window over the rate: the maximum of N(W) - rate x W, where N(W) is
    the cost of all arrivals in a window of W seconds, both ends included. 0 without arrivals.

    One pass: the excess of the worst window that ends here is that of the one that ended at the
    arrival before, less what the rate has allowed since, plus this cost.
    """
    debt = worst = 0.0
    last = times[0] if times else 0.0
    for time, cost in zip(times, costs, strict=True):
        debt = max(0.0, debt - rate * (time - last)) + cost
        worst = max(worst, debt)
        last = time
    return worst


def promise(
    rate: float, burst: float = 1.0, slack: float = SLOT_SECONDS, request: float = 1.0
) -> float:
    """The worst burst a limit may show: its `burst`, what `slack` seconds bring, and what one
    request carries beyond one message."""
    return burst + rate * slack + (request if request > 1 else 0.0)


def slack_used(worst: float, rate: float, burst: float = 1.0) -> float:
    """The delay in seconds that explains a worst burst: 0 for slots used on time."""
    return max(0.0, worst - burst) / rate


def used(
    times: Sequence[float], costs: Sequence[float], rate: float, start: float, end: float
) -> float:
    """Share of the rate used from just after `start` up to and including `end`, between which there
    must have been a backlog. With `start` an arrival, an even flow at the rate gives 1 whatever its
    phase, less at most one cost. Raises ValueError for an empty span."""
    if end <= start:
        raise ValueError(f"the span must not be empty: {start} to {end}")
    first, beyond = bisect_right(times, start), bisect_right(times, end)
    return sum(costs[first:beyond]) / (rate * (end - start))


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index: 1 where all are equal, 1/n where one has everything, 1 for nothing."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed (nearest rank).
    Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def regained(
    times: Sequence[float], rate: float, start: float, share: float = 0.95, width: float = 1.0
) -> float | None:
    """Seconds from `start` to the begin of the first `width` seconds that saw this share of the
    rate; None if there are none."""
    first = bisect_right(times, start)
    for index in range(first, len(times)):
        beyond = bisect_right(times, times[index] + width)
        if beyond - index >= share * rate * width:
            return times[index] - start
    return None


def held_from(
    times: Sequence[float], costs: Sequence[float], rate: float, bound: float
) -> float | None:
    """The time after which no window exceeds the rate by more than `bound`: that of the last
    arrival with which a worse one begins; None where there never was one.

    One pass from the end: the excess of the worst window that begins here.
    """
    debt, following = 0.0, times[-1] if times else 0.0
    for time, cost in zip(reversed(times), reversed(costs), strict=True):
        debt = max(0.0, debt - rate * (following - time)) + cost
        if debt > bound:
            return time
        following = time
    return None


def group(arrival: Arrival) -> int:
    """Which part of a run a message belongs to: digits 4 to 6 of its recipient after +49 15."""
    return arrival.to // 10**7 % 1000


def counts(
    arrivals: Sequence[Arrival], groups: Iterable[int], span: tuple[float, float]
) -> list[int]:
    """Messages of each group that arrived in a span."""
    found = dict.fromkeys(groups, 0)
    for arrival in arrivals:
        if span[0] <= arrival.first < span[1] and group(arrival) in found:
            found[group(arrival)] += 1
    return list(found.values())


def at_most(what: str, seen: float, bound: float) -> Check:
    """A figure that must not be larger."""
    return Check(what, f"<= {bound:.4g}", seen, seen <= bound)


def at_least(what: str, seen: float, bound: float) -> Check:
    """A figure that must not be smaller."""
    return Check(what, f">= {bound:.4g}", seen, seen >= bound)


def figure(what: str, seen: float) -> Check:
    """A figure nothing is asked of."""
    return Check(what, "", seen, True)


def burst_checks(
    name: str,
    arrivals: Sequence[Arrival],
    rate: float,
    burst: float = 1,
    slack: float = SLOT_SECONDS,
) -> list[Check]:
    """The worst burst over all windows, by first and by last bytes, against the promise."""
    ones = [1.0] * len(arrivals)
    ends = sorted(arrival.last for arrival in arrivals)
    worst = max(
        worst_burst([arrival.first for arrival in arrivals], ones, rate),
        worst_burst(ends, ones, rate),
    )
    return [
        at_most(f"{name}: worst burst", worst, promise(rate, burst, slack)),
        figure(f"{name}: slack used, ms", slack_used(worst, rate, burst) * 1000),
    ]


def use_check(
    name: str, arrivals: Sequence[Arrival], rate: float, span: tuple[float, float], least: float
) -> Check:
    """The share of a rate used in a span with a backlog, from the first arrival in it."""
    times = [arrival.first for arrival in arrivals]
    start = next((at for at in times if at >= span[0]), None)
    if start is None or start >= span[1]:
        return at_least(f"{name}: use of the rate", 0.0, least)
    share = used(times, [1.0] * len(times), rate, start, start + span[1] - span[0])
    return at_least(f"{name}: use of the rate", share, least)
