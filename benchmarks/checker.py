"""Compares three journals of one run: what the producer was told is accepted, what arrived at the
provider, what the store says became of it.

Times are seconds of CLOCK_MONOTONIC. Messages are known by the number they go to, which no two of
a run share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from benchmarks.arrivals import Arrival, slack_used, worst_burst

OPEN = ("queued", "scheduled")
"""Statuses of messages that are still to be sent."""
NEVER = -1.0


class Expected(NamedTuple):
    """A message the producer knows to be accepted, and when it was told."""

    id: str
    path: str
    at: float


class Final(NamedTuple):
    """What the store says of a message: its status, since when, why, and the attempts it made."""

    status: str
    at: float
    code: str = ""
    attempts: Sequence[str] = ()


class Journals(NamedTuple):
    """One run. `finals` lacks messages the store has no record of."""

    expected: Mapping[int, Expected]
    arrivals: Sequence[Arrival]
    finals: Mapping[int, Final]


class Finding(NamedTuple):
    """What became of the messages of a run, by their numbers.

    `lost`: not sent and not going to be, or sent by the store's account only. `forgotten`: arrived,
    and the store has no record of them. `twice`: path → one number for every time the provider took
    a message again. `unknown`: listed for an operator to decide; `taken` are those of them that did
    arrive. `ended`: dead, expired or the like. `strays` arrived and were never accepted.
    """

    messages: int
    lost: list[int]
    forgotten: list[int]
    twice: dict[str, list[int]]
    unknown: list[int]
    taken: list[int]
    ended: list[int]
    strays: list[int]


def check(journals: Journals) -> Finding:
    """Account for every message."""
    taken: dict[int, int] = defaultdict(int)
    for arrival in journals.arrivals:
        taken[arrival.to] += arrival.accepted
    statuses = {to: journals.finals.get(to, Final("", NEVER)).status for to in journals.expected}
    twice: dict[str, list[int]] = defaultdict(list)
    for to, message in journals.expected.items():
        twice[message.path] += [to] * (taken[to] - 1)
    return Finding(
        len(statuses),
        [to for to, status in statuses.items() if _is_lost(status, taken[to])],
        [to for to, status in statuses.items() if not status and taken[to]],
        dict(twice),
        [to for to, status in statuses.items() if status == "unknown"],
        [to for to, status in statuses.items() if status == "unknown" and taken[to]],
        [to for to, status in statuses.items() if status not in ("", "sent", "unknown", *OPEN)],
        sorted({arrival.to for arrival in journals.arrivals} - journals.expected.keys()),
    )


def _is_lost(status: str, taken: int) -> bool:
    return status in OPEN or (status in ("", "sent") and not taken)


def recovery(journals: Journals, fault: float) -> float:
    """Seconds until all was well again after a fault: the longest time without an arrival on a
    path while it had messages that had never left, or, where that is longer, until the last
    message was dealt with that may have been sent when its worker died."""
    longest = 0.0
    for path in {message.path for message in journals.expected.values()}:
        longest = max(longest, _longest_gap(journals, path, fault))
    return max(longest, _last_doubt(journals, fault) - fault)


def _longest_gap(journals: Journals, path: str, fault: float) -> float:
    arrivals = [arrival for arrival in journals.arrivals if arrival.path == path]
    fresh: dict[int, float] = {}
    for arrival in arrivals:
        fresh.setdefault(arrival.to, arrival.first)
    ends = max(fresh.values(), default=fault)
    times = [a.first for a in arrivals if a.accepted and fault < a.first <= ends]
    return max((later - earlier for earlier, later in pairwise([fault, *times])), default=0.0)


def _last_doubt(journals: Journals, fault: float) -> float:
    finals = journals.finals.values()
    return max((final.at for final in finals if final.code == "worker_lost"), default=fault)


class Pace(NamedTuple):
    """How a limit was kept: the worst burst of all windows, what was promised, and the delay in
    seconds that explains the burst."""

    worst: float
    promised: float
    slack: float


def pace(arrivals: Iterable[Arrival], path: str, rate: float, promised: float) -> Pace:
    """The arrivals of a path, whether they were accepted or not, against its rate."""
    times = [arrival.first for arrival in arrivals if arrival.path == path]
    worst = worst_burst(times, [1.0] * len(times), rate)
    return Pace(worst, promised, slack_used(worst, rate))


def story(journals: Journals, to: int, began: float) -> list[str]:
    """All that is known of one message, in the order of time; `began` is second 0."""
    events: list[tuple[float, str]] = []
    if expected := journals.expected.get(to):
        events.append((expected.at, f"accepted as {expected.id} for {expected.path}"))
    for arrival in journals.arrivals:
        if arrival.to == to:
            verb = "taken by the provider" if arrival.accepted else "refused by the provider"
            events.append((arrival.first, verb))
    if final := journals.finals.get(to):
        why = f" ({final.code})" if final.code else ""
        tries = f", attempts: {', '.join(final.attempts)}" if final.attempts else ""
        events.append((final.at, f"{final.status}{why} in the store{tries}"))
    else:
        events.append((began, "never settled in the store"))
    return [f"+{to}", *(f"  {at - began:+9.3f} s  {what}" for at, what in sorted(events))]
