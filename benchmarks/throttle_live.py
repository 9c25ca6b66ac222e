"""Throttling: limits changed and batches cancelled while their messages are being sent."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from benchmarks.arrivals import (
    Arrival,
    Check,
    at_most,
    burst_checks,
    figure,
    group,
    held_from,
    promise,
    regained,
)
from benchmarks.rig import SETTLE_IN, Case, Rig, Run, provider, rig

POLL_SECONDS = 0.005
PATIENCE = 60.0
"""Seconds without progress after which a run is given up."""
NEVER = 99.0
"""Stands for the seconds until something that did not come."""


def live(options: argparse.Namespace) -> list[Run]:
    """A rate lowered a hundred times and raised again; a large batch cancelled."""
    seconds = options.seconds or 5
    return [
        partial(_changed, seconds),
        partial(_cancelled, options.queued, options.entry),
    ]


class _Change(NamedTuple):
    """When a new rate stood in the store, and when the command that set it had ended."""

    stored: float
    ended: float


async def _changed(seconds: float) -> Case:
    fast, slow = 1000, 10
    messages = int(fast * seconds * 6)
    async with rig(provider("sink", rate=f"{fast}/s")) as run:
        batch = await run.enqueue(messages)
        await run.start(2)
        await asyncio.sleep(seconds)
        lowered = await _set_rate(run, slow)
        await asyncio.sleep(seconds)
        raised = await _set_rate(run, fast)
        await _all_done(run, batch)
        counts = await run.counts(batch)
        arrivals = run.sink.end()
        before = [a for a in arrivals if a.first <= lowered.stored]
        after = [a for a in arrivals if a.first > raised.stored]
        checks = [
            *burst_checks("before", before, fast),
            *_lowered_checks(arrivals, lowered, raised, slow),
            *burst_checks("raised", after, fast),
            *_raised_checks(arrivals, raised, fast),
            *_count_checks(arrivals, counts, messages),
        ]
        return run.case(f"{fast}/s lowered to {slow}/s and raised again, 2 workers", checks)


async def _set_rate(run: Rig, rate: int) -> _Change:
    """Have the command set the rate of the provider."""
    command = asyncio.create_task(run.command("limits", "set", "provider:sink", f"{rate}/s"))
    while await run.interval_us("provider:sink") != 1e6 / rate and not command.done():
        await asyncio.sleep(POLL_SECONDS)
    stored = time.monotonic()
    await command
    return _Change(stored, time.monotonic())


async def _all_done(run: Rig, batch: str) -> None:
    """Wait until every message of a batch has an outcome."""
    waiting, since = None, time.monotonic()
    while left := await _unfinished(run, batch):
        if left != waiting:
            waiting, since = left, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _unfinished(run: Rig, batch: str) -> int:
    counts = await run.counts(batch)
    return counts["queued"] + counts["scheduled"]


def _lowered_checks(
    arrivals: Sequence[Arrival], lowered: _Change, raised: _Change, rate: float
) -> list[Check]:
    """The promise of the lower rate from one second after the change on."""
    during = [a for a in arrivals if lowered.stored < a.first <= raised.stored]
    slow = [a for a in during if a.first > lowered.stored + 1]
    times = [a.first for a in during]
    held = held_from(times, [1.0] * len(times), rate, promise(rate))
    since = 0.0 if held is None else held - lowered.stored
    return [
        *burst_checks("lowered, 1 s after it is stored", slow, rate),
        at_most("seconds until the lower rate holds", since, 1),
        figure("the same from the end of the command", since - _took(lowered)),
    ]


def _raised_checks(arrivals: Sequence[Arrival], raised: _Change, rate: float) -> list[Check]:
    reached = regained([a.first for a in arrivals], rate, raised.stored)
    since = NEVER if reached is None else reached
    return [
        at_most("seconds until the higher rate is reached", since, 1),
        figure("the same from the end of the command", since - _took(raised)),
    ]


def _took(change: _Change) -> float:
    return change.ended - change.stored


def _count_checks(
    arrivals: Sequence[Arrival], counts: dict[str, int], messages: int
) -> list[Check]:
    """Every message is sent or cancelled, and what is sent has arrived once."""
    sent, cancelled = counts["sent"], counts["cancelled"]
    distinct = len({arrival.to for arrival in arrivals})
    return [
        _equal("sent and cancelled", sent + cancelled, messages),
        _equal("sent, as they arrived", distinct, sent),
        _equal("arrived twice", len(arrivals) - distinct, 0),
    ]


def _equal(what: str, seen: int, asked: int) -> Check:
    return Check(what, f"{asked:,}", seen, seen == asked)


async def _cancelled(messages: int, entry: int) -> Case:
    rate = 10
    async with rig(provider("sink", rate=f"{rate}/s")) as run:
        began = time.monotonic()
        batch = await run.enqueue(messages, entry=entry)
        took = time.monotonic() - began
        behind = await run.enqueue(1, group=1)
        await run.start(2)
        await asyncio.sleep(SETTLE_IN)
        cpu, cancelled = await run.store_cpu(), time.monotonic()
        await run.cancel(batch)
        await _all_done(run, batch)
        done, cpu = time.monotonic() - cancelled, await run.store_cpu() - cpu
        await _all_done(run, behind)
        counts = await run.counts(batch)
        arrivals = run.sink.end()
        freed = next((a.first - cancelled for a in arrivals if group(a) == 1), NEVER)
        checks = [
            figure("seconds to enqueue", took),
            at_most("seconds until one behind them is sent", freed, 10),
            figure("seconds until all have their outcome", done),
            figure("store CPU, seconds", cpu),
            *_count_checks([a for a in arrivals if group(a) == 0], counts, messages),
            *burst_checks("limit", arrivals, rate),
        ]
        size = f", {entry} an entry" if entry else ""
        return run.case(f"{messages:,} messages cancelled on a lane at {rate}/s{size}", checks)
