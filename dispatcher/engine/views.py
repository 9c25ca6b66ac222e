"""What users see of a batch and of a message, the same in the command and in the HTTP API."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from dispatcher.messages import Lane, Status, parse_message_id
from dispatcher.store.inspector import BatchView, Inspector


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


async def message(inspector: Inspector, name: str) -> dict[str, Any] | None:
    """A message with its attempts; None when its batch is not known, or settled without it."""
    batch, index = parse_message_id(name)
    view = await inspector.batch(batch)
    if view is None:
        return None
    known = (await inspector.records(batch, [index])).get(index)
    found = {"id": name, "status": "queued", "channel": view.channel, "tenant": view.tenant}
    created = {"created_at": _time(view.created_us // 1000)}
    if known is None:
        if view.counts["queued"]:
            return found | created
        return found | {"status": "scheduled"} | created if view.counts["scheduled"] else None
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
        "attempts": [
            {"at": _time(a.at_ms), "provider": a.provider, "code": a.code} for a in record.history
        ],
        "attempts_used": record.attempts,
        **created,
        "updated_at": _time(record.at_ms),
    }


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
