"""Whether all messages are accounted for: what our records say against what the providers saw.

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


Taken = Mapping[str, Sequence[str]]
"""Recipient → the provider's ids of what it accepted for them."""


class Submitted(NamedTuple):
    """Messages that belong together, by index: their `recipients`, how many were `accepted` at
    submit, the `counters` of their batch or batches, and their records."""

    name: str
    recipients: Sequence[str]
    accepted: int
    counters: Mapping[str, int]
    records: Mapping[int, Known]


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


def judge(submitted: Submitted, taken: Taken) -> Verdict:
    """Compare what was submitted, what we know of it and what the providers accepted."""
    recipients, records = submitted.recipients, submitted.records
    own = {to: taken[to] for to in recipients if to in taken}
    wrong: dict[str, list[int]] = {}
    for index, to in enumerate(recipients):
        if fault := _fault(records.get(index), own.get(to, ())):
            wrong.setdefault(fault, []).append(index)
    counts = _recount(len(recipients), records)
    faults = [_named(fault, indexes) for fault, indexes in wrong.items()]
    faults += _mismatches(len(recipients), submitted.accepted, submitted.counters, counts)
    return Verdict(
        faults,
        counts,
        sum(map(len, own.values())),
        len(own),
        sum(len(ids) > 1 for ids in own.values()),
        _unclear(records, own),
    )


def strangers(submitted: Iterable[Submitted], taken: Taken) -> list[str]:
    """A fault when a provider accepted what nobody had submitted."""
    unknown = taken.keys() - {to for one in submitted for to in one.recipients}
    return [f"{_messages(len(unknown))} accepted that we never submitted"] if unknown else []


def repeats(found: Iterable[str], expected: Iterable[str], differing: int) -> list[str]:
    """The faults of posts made again under their key: batches in the store beyond the expected
    ones, and answers `differing` from the first."""
    faults = []
    if extra := len(set(found) - set(expected)):
        faults.append(f"{extra} {'batch' if extra == 1 else 'batches'} nobody has a receipt for")
    if differing:
        faults.append(f"{differing} repeated posts with another answer than the first time")
    return faults


def ambiguous(status: Status, record: Record) -> bool:
    """Whether we list the message as perhaps sent: its outcome is unknown, or was after one of its
    attempts."""
    return status is Status.UNKNOWN or any(one.code in UNCLEAR for one in record.history)


def accepted_ids(arrivals: Iterable[Arrival]) -> dict[str, list[str]]:
    """What the providers accepted. SendGrid tells a sender only the id of a request; in its journal
    the number of the message follows after a dot."""
    taken: dict[str, list[str]] = {}
    for arrival in arrivals:
        if arrival.event == "accepted":
            taken.setdefault(arrival.to, []).append(arrival.id.partition(".")[0])
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
        lines.append(f"{_messages(submitted - accepted)} refused at submit")
    for word in sorted((counters.keys() | counts.keys()) - _MOVING):
        told, found = counters.get(word, 0), counts.get(word, 0)
        if told != found:
            lines.append(f"{word}: the batch counts {told}, the records {found}")
    return lines


def _unclear(records: Mapping[int, Known], taken: Taken) -> dict[str, tuple[int, int]]:
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
