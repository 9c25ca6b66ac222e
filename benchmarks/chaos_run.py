"""One run of the chaos benchmark: produce, inject a fault, drain, compare the journals."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks import machine
from benchmarks.arrivals import promise
from benchmarks.chaos_faults import FAULTS, Fault
from benchmarks.chaos_rig import GRANTED_SECONDS, Site, Way, site
from benchmarks.checker import Finding, Journals, Pace, check, pace, recovery, story
from dispatcher.store.opening import Store

MEMORY_BYTES = 3_000_000
"""What a store may use more than at its start when nothing is left in it: scripts, buffers."""
STORIES = 3
LOG_LINES = 20


class Load(NamedTuple):
    """Messages per second, and how many seconds of them."""

    rate: float
    seconds: float


class Outcome(msgspec.Struct, kw_only=True):
    """What one run came to. `bounds` is empty where nothing is promised; `kept` says whether the
    limits were, with `slack_ms` the delay that explains the worst burst and `stall_ms` the worst
    stall of the provider, which stamps late then; `wrong` lists what is not as it should be."""

    fault: str
    seed: int
    messages: int
    lost: int
    forgotten: int
    twice: dict[str, int]
    bounds: dict[str, int]
    unknown: int
    taken: int
    ended: int
    strays: int
    recovery_s: float
    kept: bool
    slack_ms: float
    stall_ms: float
    left: dict[str, int]
    memory_kb: float
    wrong: list[str] = []


class _Seen(NamedTuple):
    """What a run leaves to be judged."""

    journals: Journals
    finding: Finding
    paces: dict[str, Pace]
    unclear: int
    stall: float
    left: dict[str, int]
    memory: int


async def run(name: str, seed: int, load: Load) -> tuple[Outcome, dict[str, Any]]:
    """Inflict one fault once; what came of it, and the conditions."""
    fault = FAULTS[name]
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder), fault.setting, load.rate) as (place, near):
            conditions = machine.describe(await place.store.client.info())
            memory = await place.memory()
            await _inflict(place, near, fault, seed, fault.seconds or load.seconds)
            seen = await _look(place, fault, memory)
            outcome = _outcome(place, fault, seen)
            outcome.fault, outcome.seed = name, seed
            outcome.wrong = [*place.wrong, *_wrong(fault, outcome)]
            if outcome.wrong:
                _tell(place, outcome, seen)
            return outcome, conditions


async def _inflict(place: Site, near: Store, fault: Fault, seed: int, seconds: float) -> None:
    """Produce, inject at the seeded time, drain."""
    dice = random.Random(seed)
    place.sink.stall()
    producing = asyncio.create_task(place.produce(seconds, near))
    try:
        await place.arrived(int(place.rate * dice.uniform(1, 2)))
        place.struck = time.monotonic()
        await fault.inject(place, dice)
        await producing
        await place.drain()
    finally:
        producing.cancel()
        await asyncio.gather(producing, return_exceptions=True)


async def _look(place: Site, fault: Fault, memory: int) -> _Seen:
    left = await place.leftovers()
    unclear, stall = place.sink.unclear("/resend"), place.sink.stall()
    journals = await place.journals()
    await place.end_workers()
    left |= {f"{kind} after the end": count for kind, count in (await place.leftovers()).items()}
    await place.forget()
    paces = {
        way.name: pace(
            journals.arrivals,
            way.path,
            way.rate,
            promise(way.rate, slack=fault.slack + stall, request=fault.setting.batch),
        )
        for way in place.lanes
    }
    grown = await place.memory() - memory
    return _Seen(journals, check(journals), paces, unclear, stall, left, grown)


def _outcome(place: Site, fault: Fault, seen: _Seen) -> Outcome:
    found, paces = seen.finding, seen.paces.values()
    bounds = {way.name: _bound(way, fault, seen.unclear) for way in place.lanes}
    return Outcome(
        fault="",
        seed=0,
        messages=found.messages,
        lost=len(found.lost),
        forgotten=len(found.forgotten),
        twice={way.name: len(found.twice.get(way.path, ())) for way in place.lanes},
        bounds={} if fault.explained else bounds,
        unknown=len(found.unknown),
        taken=len(found.taken),
        ended=len(found.ended),
        strays=len(found.strays),
        recovery_s=recovery(seen.journals, place.struck),
        kept=all(item.worst <= item.promised for item in paces),
        slack_ms=max(item.slack for item in paces) * 1000,
        stall_ms=seen.stall * 1000,
        left=seen.left,
        memory_kb=seen.memory / 1000,
    )


def _bound(way: Way, fault: Fault, unclear: int) -> int:
    """How many messages may be sent twice."""
    if way.name == "hold":
        return 0
    return round(fault.killed * way.rate * GRANTED_SECONDS) + unclear


def _wrong(fault: Fault, outcome: Outcome) -> Iterator[str]:
    if (outcome.lost or outcome.forgotten) and not fault.explained:
        yield f"{outcome.lost} lost, {outcome.forgotten} forgotten"
    for way, bound in outcome.bounds.items():
        if outcome.twice[way] > bound:
            yield f"{outcome.twice[way]} of {way} sent twice, at most {bound} may be"
    if outcome.ended or outcome.strays:
        yield f"{outcome.ended} dead, {outcome.strays} that nobody accepted"
    if fault.within is not None and outcome.recovery_s > fault.within:
        yield f"recovered after {outcome.recovery_s:.1f} s, asked {fault.within:g} s"
    if not outcome.kept:
        yield f"a limit was not kept: {outcome.slack_ms:.0f} ms of its rate came early"
    if outcome.left:
        yield f"left over: {outcome.left}"
    if outcome.memory_kb * 1000 > MEMORY_BYTES:
        yield f"the store uses {outcome.memory_kb:,.0f} kB more than at its start"


def _tell(place: Site, outcome: Outcome, seen: _Seen) -> None:
    """Print what is needed to understand and to repeat a failure."""
    print(f"\n{outcome.fault}, seed {outcome.seed}: {'; '.join(outcome.wrong)}")
    for to in _suspects(outcome, seen.finding)[:STORIES]:
        print("\n".join(story(seen.journals, to, place.began)))
    for line in place.log.read_text().splitlines()[-LOG_LINES:]:
        print(f"  {line[:300]}", flush=True)


def _suspects(outcome: Outcome, found: Finding) -> Sequence[int]:
    """Messages of which something is wrong, each once."""
    suspects = [*found.lost, *found.forgotten, *found.ended, *found.strays]
    for way, bound in outcome.bounds.items():
        if outcome.twice[way] > bound:
            suspects += found.twice[f"/{way}"]
    return list(dict.fromkeys(suspects))
