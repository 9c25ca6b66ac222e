"""What users see of a batch and of a message, the same in the command and in the HTTP API."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from dispatcher.engine.waiting import moment, reason, standing_of
from dispatcher.messages import Attempt, Lane, Record, Status, parse_message_id
from dispatcher.store.inspector import ActionView, BatchView, Inspector
from dispatcher.store.limit_views import LimitView
from dispatcher.store.resolving import RECEIPT

OPERATOR = "operator"
"""What a tenant reads in the place of an operator's name."""


def batch_view(view: BatchView) -> dict[str, Any]:
    """A batch; the counts of the statuses add up to `total`."""
    return {
        "batch": view.id,
        "tenant": view.tenant,
        "channel": view.channel,
        "created_at": _time(view.created_us // 1000),
        "total": view.total,
        **view.counts,
        **view.events,
        "codes": view.codes,
    }


def limit_view(view: LimitView, lanes: Sequence[str]) -> dict[str, Any]:
    """A limit; `lanes` are those that wait for it. Rates are units per second, null for none; the
    rate in force is the configured one or the one set above it, times `factor`."""
    return {
        "name": view.name,
        "unit": "segment" if view.segments else "message",
        "rate": _per_second(view.interval_us),
        "configured": _per_second(view.configured_us),
        "set": None if view.set_us is None else _per_second(view.set_us),
        "set_until": moment(view.set_until_us) if view.set_until_us else None,
        "burst": view.burst,
        "used": None if view.used is None else round(view.used, 3),
        "booked_seconds": view.booked_us / 1e6,
        "paused_seconds": view.paused_us / 1e6,
        "factor": round(view.factor, 3),
        "quotas": [
            {
                "period": quota.period,
                "used": quota.used,
                "of": quota.most,
                "ends": moment(quota.ends_us),
            }
            for quota in view.quotas
        ],
        "lanes": list(lanes),
    }


def action_view(view: ActionView) -> dict[str, Any]:
    """What an operator did."""
    return {
        "at": moment(view.at_us),
        "who": view.who,
        "what": view.what,
        "on": view.on,
        "detail": view.detail,
        "reason": view.reason,
        "affected": view.affected,
    }


def attempts_view(history: Iterable[Attempt]) -> list[dict[str, Any]]:
    """The story of a message, line by line; `by` where it was not a worker."""
    return [
        {"at": _time(one.at_ms), "provider": one.provider, "code": one.code}
        | ({"by": one.by} if one.by else {})
        for one in history
    ]


def for_tenant(story: dict[str, Any]) -> dict[str, Any]:
    """A message as its tenant sees it: not which operator did something."""
    told = [
        line | {"by": OPERATOR} if line.get("by", RECEIPT) != RECEIPT else line
        for line in story.get("attempts", ())
    ]
    return story | {"attempts": told} if told else story


async def message(inspector: Inspector, name: str) -> dict[str, Any] | None:
    """A message with its attempts; None when its batch is not known, or settled without it.

    `waiting_for` says what still holds it back. Before its first attempt that is what holds back
    the lanes of its batch: nothing is recorded of the message itself.
    """
    batch, index = parse_message_id(name)
    view = await inspector.batch(batch)
    if view is None:
        return None
    known = (await inspector.records(batch, [index])).get(index)
    found = {"id": name, "status": "queued", "channel": view.channel, "tenant": view.tenant}
    created = {"created_at": _time(view.created_us // 1000)}
    if known is None:
        # Entries of a cancelled batch are dropped without a record of each message.
        wanted = ("queued", "scheduled", "cancelled")
        status = next((status for status in wanted if view.counts[status]), None)
        if status is None:
            return None
        waiting_for = await _untried(inspector, view) if status != "cancelled" else None
        return found | created | {"status": status, "waiting_for": waiting_for}
    state, _, record = known
    if state is Status.SCHEDULED and record.due_ms <= time.time() * 1000:
        state = Status.QUEUED
    lane = Lane.parse(record.lane)
    waiting = state is Status.SCHEDULED
    return {
        **found,
        "status": state.word,
        "ref": record.ref,
        "to": record.to,
        "provider": lane.provider,
        "carrier": lane.carrier,
        "provider_id": record.provider_id,
        "error": {"code": record.code, "detail": record.detail} if record.code else None,
        "due_at": _time(record.due_ms) if waiting else None,
        "attempts": attempts_view(record.history),
        "attempts_used": record.attempts,
        **created,
        "waiting_for": await _waiting_for(inspector, state, record),
        "updated_at": _time(record.at_ms),
    }


async def _untried(inspector: Inspector, view: BatchView) -> str | None:
    """What messages of a batch wait for before their first attempt: each is in one of its lanes."""
    if view.due_us > await inspector.now_us():
        return f"scheduled until {moment(view.due_us)}"
    lanes = [lane for lane in view.lanes if lane != "*"]
    reasons = {reason(await standing_of(inspector, lane)): None for lane in lanes}
    return " or ".join(text or "nothing" for text in reasons) if any(reasons) else None


async def _waiting_for(inspector: Inspector, state: Status, record: Record) -> str | None:
    if state is Status.SCHEDULED:
        return f"scheduled until {moment(record.due_ms * 1000)}"
    if state is not Status.QUEUED:
        return None
    return reason(await standing_of(inspector, record.lane))


def _per_second(interval_us: float) -> float | None:
    return float(f"{1e6 / interval_us:.9g}") if interval_us else None


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
