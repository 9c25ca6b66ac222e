"""Whether a campaign is accounted for: what our records say against what the provider saw.

Pure: no store, no socket, no clock. A recipient stands for its message, as each occurs once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from dispatcher.messages import Record, Status
from dispatcher.store.inspector import Known

UNCLEAR = frozenset({"timeout", "reset", "protocol", "garbage", "worker_lost"})
"""Codes of attempts after which nobody can know whether the provider took the message."""
LAG = 0.05
"""Seconds by which a paced limit may run ahead: the promise is `burst + rate * LAG` at once."""
MEASURED = 1.0
"""Seconds a backlog must last before its rate means something."""
_NAMED = 3
_WAITING = (Status.QUEUED, Status.SCHEDULED)
_MOVING = frozenset(status.word for status in _WAITING)
"""Not compared: a message that is due moves between them without a word in its record."""
_ENDED_UNSENT = (Status.DEAD, Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED)


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One message as the provider's journal has it: `event` is accepted or refused, `id` the
    provider's own, `arrived_ns` its monotonic clock."""

    event: str
    id: str
    code: str
    to: str
    arrived_ns: int


class Verdict(NamedTuple):
    """`faults` is empty when every accepted message is accounted for, else a line per kind of
    fault. `counts` is messages per status, recounted from the records. The provider accepted
    `accepted` times, `distinct` messages, `twice` of them more than once. `unclear` has per code
    the messages of unknown outcome, and how many of them the provider had accepted."""

    faults: list[str]
    counts: dict[str, int]
    accepted: int
    distinct: int
    twice: int
    unclear: dict[str, tuple[int, int]]


def judge(
    recipients: Sequence[str],
    accepted: int,
    counters: Mapping[str, int],
    records: Mapping[int, Known],
    arrivals: Iterable[Arrival],
) -> Verdict:
    """Compare the campaign (`recipients` by index, `accepted` of them at submit), the counters of
    its batch, its records and the provider's journal."""
    taken = _taken(arrivals)
    wrong: dict[str, list[int]] = {}
    for index, to in enumerate(recipients):
        if fault := _fault(records.get(index), taken.get(to, ())):
            wrong.setdefault(fault, []).append(index)
    counts = _recount(len(recipients), records)
    faults = [_named(fault, indexes) for fault, indexes in wrong.items()]
    faults += _mismatches(len(recipients), accepted, counters, counts)
    if strangers := taken.keys() - set(recipients):
        faults.append(f"{_messages(len(strangers))} accepted that we never submitted")
    return Verdict(
        faults,
        counts,
        sum(map(len, taken.values())),
        len(taken),
        sum(len(ids) > 1 for ids in taken.values()),
        _unclear(records, taken),
    )


def ambiguous(status: Status, record: Record) -> bool:
    """Whether we list the message as perhaps sent: its outcome is unknown, or was after one of its
    attempts."""
    return status is Status.UNKNOWN or any(one.code in UNCLEAR for one in record.history)


def _taken(arrivals: Iterable[Arrival]) -> dict[str, list[str]]:
    """Recipient → the provider's ids of what it accepted for them."""
    taken: dict[str, list[str]] = {}
    for arrival in arrivals:
        if arrival.event == "accepted":
            taken.setdefault(arrival.to, []).append(arrival.id)
    return taken


def _fault(known: Known | None, taken: Sequence[str]) -> str:
    """What is wrong with one message; empty when nothing is."""
    if known is None or known[0] in _WAITING:
        return "without an outcome"
    status, _, record = known
    if status is Status.SENT and record.provider_id not in taken:
        return "sent by our account, but never accepted by the provider"
    if ambiguous(status, record):
        return ""
    if len(taken) > 1:
        return "accepted more than once by the provider and not listed as ambiguous"
    if status in _ENDED_UNSENT and taken:
        return "accepted by the provider, but dead or suppressed by our account"
    return ""


def _recount(messages: int, records: Mapping[int, Known]) -> dict[str, int]:
    counts = Counter(status.word for status, _, _ in records.values())
    counts[Status.QUEUED.word] += messages - len(records)
    return dict(counts)


def _mismatches(
    submitted: int, accepted: int, counters: Mapping[str, int], counts: Mapping[str, int]
) -> list[str]:
    lines = []
    if accepted != submitted:
        lines.append(f"{_messages(submitted - accepted)} of the campaign refused at submit")
    for word in sorted((counters.keys() | counts.keys()) - _MOVING):
        told, found = counters.get(word, 0), counts.get(word, 0)
        if told != found:
            lines.append(f"{word}: the batch counts {told}, the records {found}")
    return lines


def _unclear(
    records: Mapping[int, Known], taken: Mapping[str, Sequence[str]]
) -> dict[str, tuple[int, int]]:
    unknown = [record for status, _, record in records.values() if status is Status.UNKNOWN]
    held = Counter(record.code or "" for record in unknown)
    reached = Counter(record.code or "" for record in unknown if record.to in taken)
    return {code: (count, reached[code]) for code, count in held.most_common()}


def _named(fault: str, indexes: Sequence[int]) -> str:
    shown = ", ".join(map(str, indexes[:_NAMED]))
    more = ", …" if len(indexes) > _NAMED else ""
    return f"{_messages(len(indexes))} {fault} (record {shown}{more})"


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


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


def measure(rate: float, arrivals: Sequence[Arrival], pauses: Sequence[tuple[int, int]]) -> Use:
    """`arrivals` of one carrier in order of arrival, `pauses` as (start, end) in ns."""
    times = [arrival.arrived_ns for arrival in arrivals]
    promised = 1 + rate * LAG
    end = _last_first_attempt(arrivals)
    paced = [at for at in times if at <= end]
    start = paced[0] if paced else 0
    paused = sum(max(0, min(end, stop) - max(start, begin)) for begin, stop in pauses)
    seconds = (end - start - paused) / 1e9
    found = (len(paced) - 1) / seconds if seconds >= MEASURED else None
    used = None if found is None else found / rate
    return Use(len(times), found, used, worst_burst(times, rate), promised)


def _last_first_attempt(arrivals: Sequence[Arrival]) -> int:
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
