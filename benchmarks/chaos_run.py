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
from redis.exceptions import RedisError

from benchmarks import machine
from benchmarks.arrivals import promise
from benchmarks.chaos_faults import FAULTS, Fault
from benchmarks.chaos_opening import site
from benchmarks.chaos_rig import GRANTED_SECONDS, SETTLED_SECONDS, Site, Way
from benchmarks.checker import NEVER, Finding, Journals, Pace, check, pace, recovery, story
from dispatcher.errors import DispatcherError
from dispatcher.store.opening import Store

MEMORY_BYTES = 3_000_000
"""What a store may use more than at its start when nothing is left in it: scripts, buffers."""
TOLD_SECONDS = 0.25
"""How much later than the store did it the producer may note that messages were accepted."""
STORIES = 3
LOG_LINES = 20


class Load(NamedTuple):
    """Messages per second, and how many seconds of them."""

    rate: float
    seconds: float


class Outcome(msgspec.Struct, kw_only=True):
    """What one run came to. `after` is with how many arrivals the fault was injected. Of the `lost`
    and `forgotten` messages `unexplained` are those that the fault does not take along; `bounds` is
    empty where nothing is promised; `kept` says whether the limits were, with `slack_ms` the delay
    that explains the worst burst and `stall_ms` the worst stall of the provider, which stamps late
    then; `wrong` lists what is not as it should be."""

    fault: str
    seed: int
    after: int = 0
    messages: int
    lost: int
    forgotten: int
    unexplained: int = 0
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


def schedule(seed: int, rate: float) -> tuple[int, random.Random]:
    """After how many arrivals a fault is injected, and what decides all that is left to chance in
    it: the same for the same seed."""
    dice = random.Random(seed)
    return int(rate * dice.uniform(1, 2)), dice


async def run(name: str, seed: int, load: Load, program: str) -> tuple[Outcome, dict[str, Any]]:
    """Inflict one fault once, on a store of this program; what came of it, and the conditions."""
    fault = FAULTS[name]
    after, dice = schedule(seed, load.rate)
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder), fault.setting, load.rate, program) as (place, near):
            conditions = machine.describe(await place.store.client.info())
            memory = await place.memory()
            await _inflict(place, near, fault, after, dice, fault.seconds or load.seconds)
            seen = await _look(place, fault, memory)
            outcome = _outcome(place, fault, seen)
            outcome.fault, outcome.seed, outcome.after = name, seed, after
            outcome.wrong = [*place.wrong, *_wrong(fault, outcome)]
            if outcome.wrong:
                _tell(place, outcome, seen)
            return outcome, conditions


async def _inflict(
    place: Site, near: Store, fault: Fault, after: int, dice: random.Random, seconds: float
) -> None:
    """Produce, inject after so many arrivals, drain. What fails in that is told with the rest."""
    place.sink.stall()
    producing = asyncio.create_task(place.produce(seconds, near))
    try:
        await place.arrived(after)
        place.struck = time.monotonic()
        await fault.inject(place, dice)
        await producing
        await place.drain()
    except (DispatcherError, RedisError, TimeoutError) as error:
        place.wrong.append(f"the run broke off: {error or type(error).__name__}")
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
    bounds = {way.name: _bound(way, place, fault, seen.unclear) for way in place.lanes}
    return Outcome(
        fault="",
        seed=0,
        messages=found.messages,
        lost=len(found.lost),
        forgotten=len(found.forgotten),
        unexplained=len(_unexplained(place, fault, seen)),
        twice={way.name: len(found.twice.get(way.path, ())) for way in place.lanes},
        bounds={} if fault.gone else bounds,
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


def _bound(way: Way, place: Site, fault: Fault, unclear: int) -> int:
    """How many messages may be sent twice. Where a store forgets, that is all that was granted or
    settled meanwhile; and workers start anew, which is as if all of them were killed."""
    seconds = place.behind + SETTLED_SECONDS + GRANTED_SECONDS if fault.forgets else 0.0
    if way.name == "hold":
        return round(way.rate * seconds)
    deaths = fault.killed + fault.forgets
    return round(way.rate * (seconds + deaths * GRANTED_SECONDS)) + unclear


def _unexplained(place: Site, fault: Fault, seen: _Seen) -> list[int]:
    """Messages that are lost or forgotten although the fault does not take them along: it takes
    those that were accepted when the store had forgotten all, or what its replica did not hear."""
    missing = [*seen.finding.lost, *seen.finding.forgotten]
    since = NEVER if fault.gone else place.struck - place.behind - TOLD_SECONDS
    if not fault.gone and (not fault.forgets or fault.setting.confirm == "replica"):
        return missing
    accepted = seen.journals.expected
    return [to for to in missing if not since <= accepted[to].at <= place.struck + TOLD_SECONDS]


def _wrong(fault: Fault, outcome: Outcome) -> Iterator[str]:
    if outcome.unexplained:
        yield (
            f"{outcome.lost} lost, {outcome.forgotten} forgotten, "
            f"{outcome.unexplained} of them unexplained"
        )
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
    missing = [*found.lost, *found.forgotten] if outcome.unexplained else []
    suspects = [*missing, *found.ended, *found.strays]
    for way, bound in outcome.bounds.items():
        if outcome.twice[way] > bound:
            suspects += found.twice[f"/{way}"]
    return list(dict.fromkeys(suspects))
