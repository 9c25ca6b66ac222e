"""Throttling: what arrives at a provider against what the limits promise.

Every case is a run of its own: an embedded store, worker processes, a backlog, and a sink that
stamps every request when it reads it. Stamps therefore include socket queues and the scheduling of
a busy machine, which no limit promises anything about: a burst above the promise on a machine with
idle cores is a fault, on an overloaded one it may be the machine.

Prints asked and seen, and writes results/throttle-SCENARIO.json. Exit code 1 when something asked
was not seen.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import uvloop

from benchmarks import machine
from benchmarks.arrivals import (
    SLOT_SECONDS,
    Check,
    at_least,
    at_most,
    burst_checks,
    figure,
    group,
    percentile,
    regained,
    use_check,
)
from benchmarks.rig import SETTLE_IN, Case, Rig, Run, provider, rig
from benchmarks.throttle_live import live
from benchmarks.throttle_shares import shared, tenants
from dispatcher.errors import DispatcherError

RATES = {"matrix": [0.5, 1, 10, 333, 1000, 5000], "calls": [10, 100, 1000]}
WORKERS = {"matrix": [1, 2, 4, 8], "pause": [1, 4], "urgent": [1, 4], "calls": [1, 4]}
WRITES = re.compile(
    "set|del|incr|expire|rpush|sadd|h(set|setnx|del|incrby)|z(add|rem|incrby)|x(add|del|ack)"
)
"""Commands that write, of those the scripts use."""


def matrix(options: argparse.Namespace) -> list[Run]:
    """Rates and numbers of workers, undisturbed or with faults."""
    return [
        partial(_rate, rate, workers, options)
        for rate in options.rates
        for workers in options.workers
    ]


async def _rate(rate: float, workers: int, options: argparse.Namespace) -> Case:
    seconds = options.seconds or 20
    async with rig(provider("sink", rate=f"{rate:g}/s")) as run:
        backlog = int(rate * (seconds + 5 + 2 * workers)) + 10
        await run.enqueue(backlog, entry=options.entry)
        await run.start(workers)
        await asyncio.sleep(SETTLE_IN)
        start = time.monotonic()
        disturbing = [_disturb(run, seconds)] if options.faults else []
        # one second more: the span begins with the first arrival in it
        await asyncio.gather(asyncio.sleep(seconds + max(1, 1 / rate)), *disturbing)
        arrivals = run.sink.end()
        checks = burst_checks("limit", arrivals, rate)
        if not options.faults:
            span = (start, start + seconds)
            checks.append(use_check("limit", arrivals, rate, span, 0.99 if rate >= 10 else 0))
        checks.append(
            Check("backlog left", "> 0", backlog - len(arrivals), backlog > len(arrivals))
        )
        entry = f", {options.entry} an entry" if options.entry else ""
        faults = ", with faults" if options.faults else ""
        return run.case(f"{rate:g}/s, {workers} workers{entry}{faults}", checks)


async def _disturb(run: Rig, seconds: float) -> None:
    """A worker killed and replaced, one stopped beyond its lease, limits forgotten, a restart."""
    await asyncio.sleep(0.1 * seconds)
    run.kill(run.workers[0])
    run.spawn()
    await asyncio.sleep(0.1 * seconds)
    await run.halt(run.workers[-2] if len(run.workers) > 1 else run.workers[-1], 0.25 * seconds)
    await asyncio.sleep(0.1 * seconds)
    await run.forget_limits()
    await asyncio.sleep(0.15 * seconds)
    await run.restart_store()


def idle(options: argparse.Namespace) -> list[Run]:
    """A backlog after nothing to do: what `burst` allows and no more."""
    seconds = 30 if options.seconds is None else options.seconds
    return [partial(_idle, rate, burst, seconds) for rate, burst in ((100, 1), (10, 50))]


async def _idle(rate: int, burst: int, seconds: float) -> Case:
    async with rig(provider("sink", rate=f"{rate}/s", burst=burst)) as run:
        await run.start(2)
        await asyncio.sleep(seconds)
        await run.enqueue(burst + rate * 10)
        await asyncio.sleep(5)
        arrivals = run.sink.end()
        checks = burst_checks("limit", arrivals, rate, burst)
        times = [arrival.first for arrival in arrivals]
        at_once = sum(at <= times[0] + 2 * SLOT_SECONDS for at in times)
        if burst > 1:
            checks.append(at_least("arrived within 100 ms", at_once, burst))
        return run.case(f"{seconds:g} s idle, {rate}/s, burst {burst}", checks)


def pause(options: argparse.Namespace) -> list[Run]:
    """The provider asks for a pause of five seconds."""
    return [partial(_pause, workers) for workers in options.workers]


async def _pause(workers: int) -> Case:
    rate, answer_seconds, asked, span = 100, 0.1, 5, 4
    async with rig(provider("sink", rate=f"{rate}/s")) as run:
        run.sink.delay("/sink", answer_seconds)
        await run.start(workers)
        await asyncio.sleep(5)
        unused = await _store_calls(run, span)
        await run.enqueue(rate * 40)
        await asyncio.sleep(2)
        sending = (await _store_calls(run, span)).beyond(unused)
        start = time.monotonic()
        run.sink.throttle(asked, asked)
        paused = (await _store_calls(run, span)).beyond(unused)
        await asyncio.sleep(asked - span + 15)
        arrivals = run.sink.end()
        throttled = [arrival.first for arrival in arrivals if not arrival.accepted]
        told = throttled[0] + answer_seconds
        in_pause = sum(told < arrival.first <= told + asked for arrival in arrivals)
        back = regained([arrival.first for arrival in arrivals], rate, told + asked)
        settled = sum(
            arrival.accepted and start < arrival.first + answer_seconds <= start + span
            for arrival in arrivals
        )
        cost = paused.beyond(sending, settled / (rate * span))
        checks = [
            *burst_checks("limit", arrivals, rate),
            figure("throttled", len(throttled)),
            figure("accepted and settled in the pause", settled),
            at_most("throttled: on the wire by then", len(throttled), rate * 0.1 + workers),
            at_most("arrived after the first answer", in_pause, workers),
            at_most("seconds until 95 % are back", 99 if back is None else back, 10),
            at_most("script calls per throttled", cost.scripts / len(throttled), 2),
            at_most("write commands per throttled", cost.writes / len(throttled), 2),
        ]
        return run.case(f"Retry-After: {asked}, {workers} workers", checks)


class _StoreCalls(NamedTuple):
    scripts: float
    writes: float

    def beyond(self, usual: _StoreCalls, share: float = 1.0) -> _StoreCalls:
        """What is more than that share of what is usual."""
        scripts, writes = self.scripts - share * usual.scripts, self.writes - share * usual.writes
        return _StoreCalls(scripts, writes)


async def _store_calls(run: Rig, seconds: float) -> _StoreCalls:
    """Scripts called, and commands that write within them, in a time from now."""
    before = await run.commands()
    await asyncio.sleep(seconds)
    calls = await run.commands() - before
    writes = sum(count for name, count in calls.items() if WRITES.fullmatch(name))
    return _StoreCalls(calls["evalsha"], writes)


def urgent(options: argparse.Namespace) -> list[Run]:
    """Urgent messages, one at a time, on a lane saturated with bulk."""
    bounds = {1: 0.05}
    return [
        partial(_urgent, workers, options.urgent, bounds.get(workers, 0.2))
        for workers in options.workers
    ]


async def _urgent(workers: int, count: int, bound: float) -> Case:
    async with rig(provider("sink", rate="100/s")) as run:
        await run.enqueue(100 * (20 + count // 4))
        await run.start(workers)
        await asyncio.sleep(SETTLE_IN)
        submitted = {}
        for n in range(count):
            submitted[n] = time.monotonic()
            await run.enqueue(1, group=1, class_="urgent", first=n)
            await asyncio.sleep(random.uniform(0.1, 0.3))
        await asyncio.sleep(2)
        arrivals = run.sink.end()
        found = [arrival for arrival in arrivals if group(arrival) == 1]
        waits = [arrival.first - submitted[arrival.to % 10**7] for arrival in found]
        checks = [
            Check("urgent arrived", f"{count}", len(waits), len(waits) == count),
            figure("wait p50, ms", percentile(waits, 0.5) * 1000),
            at_most("wait p99, ms", percentile(waits, 0.99) * 1000, bound * 1000),
            *burst_checks("limit", arrivals, 100),
        ]
        return run.case(f"urgent under bulk at 100/s, {workers} workers", checks)


def calls(options: argparse.Namespace) -> list[Run]:
    """How often workers call the store."""
    seconds = options.seconds or 10
    parts: list[Run] = [partial(_idle_calls, workers, seconds) for workers in options.workers]
    for rate in options.rates:
        parts += [partial(_busy_calls, rate, workers, seconds) for workers in options.workers]
    return parts


async def _idle_calls(workers: int, seconds: float) -> Case:
    async with rig(provider("sink", rate="100/s")) as run:
        await run.start(workers, ports=True)
        await asyncio.sleep(5)
        rates = await run.calls_over(seconds)
        most = max(claims for claims, _ in rates)
        return run.case(
            f"nothing to do, {workers} workers", [at_most("claims/s a worker", most, 1)]
        )


async def _busy_calls(rate: float, workers: int, seconds: float) -> Case:
    async with rig(provider("sink", rate=f"{rate:g}/s")) as run:
        await run.enqueue(int(rate * (seconds + 10 + 2 * workers)) + 10)
        await run.start(workers, ports=True)
        await asyncio.sleep(2)
        rates = await run.calls_over(seconds)
        claims = sum(claims for claims, _ in rates)
        checks = [
            at_most("claims/s of the lane and its waiting", claims, 12 + workers - 1),
            at_most("settles/s a worker", max(settles for _, settles in rates), 20),
        ]
        return run.case(f"one lane at {rate:g}/s, {workers} workers", checks)


SCENARIOS: dict[str, Callable[[argparse.Namespace], list[Run]]] = {
    "matrix": matrix,
    "shared": shared,
    "idle": idle,
    "pause": pause,
    "tenants": tenants,
    "urgent": urgent,
    "calls": calls,
    "live": live,
}


def main(args: list[str]) -> int:
    """Command line of the benchmark; 1 when something asked was not seen."""
    parser = argparse.ArgumentParser(prog="./run bench throttle", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--seconds", type=float, help="of a run (its idle part in `idle`)")
    parser.add_argument("--rates", type=_numbers, help="per second, for matrix and calls")
    parser.add_argument("--workers", type=_numbers)
    parser.add_argument("--entry", type=int, choices=(0, 1, 500), default=0, help="0: by the rate")
    parser.add_argument("--faults", action="store_true", help="in matrix")
    parser.add_argument("--messages", type=int, default=1_000_000, help="of the large tenant")
    parser.add_argument("--queued", type=int, default=200_000, help="cancelled in live")
    parser.add_argument("--urgent", type=int, default=200, help="urgent messages")
    parser.add_argument("--only", type=int, help="one part of a scenario, by its number from 0")
    options = parser.parse_args(args)
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {unknown.pop()!r} (known: {', '.join(SCENARIOS)})")
    kept = [_scenario(name, options) for name in options.scenarios or SCENARIOS]
    return 0 if all(kept) else 1


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def _scenario(name: str, options: argparse.Namespace) -> bool:
    """Run one scenario and keep what was seen, also of the parts before one that fails."""
    chosen = argparse.Namespace(**vars(options))
    chosen.rates = options.rates or RATES.get(name, [])
    chosen.workers = [int(count) for count in options.workers or WORKERS.get(name, [])]
    runs = SCENARIOS[name](chosen)
    if options.only is not None:
        runs = runs[options.only : options.only + 1]
    cases, good = [], True
    for run in runs:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                case = runner.run(run())
        except DispatcherError as error:
            print(f"\n{name}: cannot be run: {error}", file=sys.stderr)
            good = False
            continue
        _print(case)
        cases.append(case)
        good = good and all(check.kept for check in case.checks)
    asked = {key: value for key, value in vars(chosen).items() if key != "scenarios"}
    conditions = cases[0].conditions if cases else {}
    found = [{"name": case.name, "checks": [c._asdict() for c in case.checks]} for case in cases]
    machine.save(f"throttle-{name}", {"options": asked, "conditions": conditions, "cases": found})
    return good


def _print(case: Case) -> None:
    print(f"\n{case.name}")
    for check in case.checks:
        verdict = "" if not check.asked else "kept" if check.kept else "NOT KEPT"
        print(f"  {check.what:<42}{check.asked:>12}{check.seen:>12,.4g}  {verdict}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
