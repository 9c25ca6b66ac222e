"""Feeds the counters, once per settled entry; looks every child up once."""

from __future__ import annotations

from collections import Counter
from functools import cache

import prometheus_client

from dispatcher import metrics
from dispatcher.engine.entry import HeldEntry
from dispatcher.messages import Lane, Status
from dispatcher.store.queue import Settlement

_MOVED = (Status.QUEUED, Status.SCHEDULED)


def count_settled(entry: HeldEntry, settlement: Settlement) -> None:
    """Count what a settle call has written for one entry."""
    found = Counter(o.status.word for o in settlement.outcomes if o.status not in _MOVED)
    if settlement.sheets:
        found["sent"] += sum(sheet.messages for sheet in settlement.sheets)
    for name in ("retried", "deferred"):
        if name in settlement.counters:
            found[name] += settlement.counters[name]
    tenant, channel = entry.envelope.tenant, entry.envelope.channel
    for outcome, number in found.items():
        _messages(entry.lane, outcome).inc(number)
        _tenant(tenant, channel, outcome).inc(number)


CODES_MOST = 200
"""Codes counted by name: an endpoint may make up any number of them."""
_codes: set[str] = set()


def count_error(lane: str, code: str) -> None:
    """Count one send that was not accepted."""
    if len(_codes) < CODES_MOST:
        _codes.add(code)
    _errors(lane, code if code in _codes else "other").inc()


@cache
def _messages(lane: str, outcome: str) -> prometheus_client.Counter:
    parsed = Lane.parse(lane)
    return metrics.MESSAGES.labels(parsed.provider, parsed.carrier, parsed.channel, outcome)


@cache
def _tenant(tenant: str, channel: str, outcome: str) -> prometheus_client.Counter:
    return metrics.TENANT_MESSAGES.labels(tenant, channel, outcome)


@cache
def _errors(lane: str, code: str) -> prometheus_client.Counter:
    parsed = Lane.parse(lane)
    return metrics.SEND_ERRORS.labels(parsed.provider, parsed.carrier, code)
