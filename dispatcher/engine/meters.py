"""Feeds the counters, once per settled entry; looks every child up once."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import prometheus_client

from dispatcher import metrics
from dispatcher.engine.entry import HeldEntry
from dispatcher.messages import Lane, Status
from dispatcher.store.queue import Settlement

_OUTCOMES = frozenset({Status.SENT, Status.DEAD, Status.SUPPRESSED, Status.EXPIRED, Status.UNKNOWN})
_CHILDREN = 16_384
"""Children remembered: lanes may be many, their series are few."""


def count_settled(entry: HeldEntry, settlement: Settlement) -> None:
    """Count what a settle call has written for one entry."""
    found = Counter(o.status.word for o in settlement.outcomes if o.status in _OUTCOMES)
    if settlement.sheets:
        found["sent"] += sum(sheet.messages for sheet in settlement.sheets)
    for name in ("retried", "deferred"):
        if name in settlement.counters:
            found[name] += settlement.counters[name]
    tenant, channel = entry.envelope.tenant, entry.envelope.channel
    for outcome, number in found.items():
        _messages(entry.lane, outcome).inc(number)
        _tenant(tenant, channel, outcome).inc(number)
    if settlement.segments:
        _segments(entry.lane, tenant).inc(settlement.segments)


def count_error(lane: str, code: str) -> str:
    """Count one message that a provider did not accept; the code it is counted under."""
    code = metrics.CODES.of(code)
    _errors(lane, code).inc()
    return code


@lru_cache(_CHILDREN)
def _messages(lane: str, outcome: str) -> prometheus_client.Counter:
    provider, channel, carrier = Lane.parse(lane)
    return metrics.MESSAGES.labels(provider, metrics.CARRIERS.of(carrier), channel, outcome)


@lru_cache(_CHILDREN)
def _tenant(tenant: str, channel: str, outcome: str) -> prometheus_client.Counter:
    return metrics.TENANT_MESSAGES.labels(tenant, channel, outcome)


@lru_cache(_CHILDREN)
def _segments(lane: str, tenant: str) -> prometheus_client.Counter:
    provider, _, carrier = Lane.parse(lane)
    return metrics.SEGMENTS.labels(provider, metrics.CARRIERS.of(carrier), tenant)


@lru_cache(_CHILDREN)
def _errors(lane: str, code: str) -> prometheus_client.Counter:
    provider, _, carrier = Lane.parse(lane)
    return metrics.SEND_ERRORS.labels(provider, metrics.CARRIERS.of(carrier), code)
