"""Autoscale: a day like Cyber Monday, simulated, with workers by the rule of the manifests.

Messages come by a curve with its peak at noon and one campaign at nine; four providers take a
quarter each, one of them is out for a while at two. A worker sends as many as its measured cost
allows. The store is not simulated.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import deque
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeAlias

from benchmarks import autoscale_plot, figures, machine, sizing
from benchmarks.autoscaler import SYNC_SECONDS, Autoscaler, Rule, read_rule

MANIFEST = Path(__file__).parents[1] / "k8s/overlays/keda/scaledobject.yaml"
MARK = re.compile(r"(?<=<!-- autoscale -->\n).*?(?=<!-- end -->)", re.DOTALL)
DAY = 86_400
RATE_WINDOW = 60
"""Seconds over which the query of the manifest takes its rate."""
DRAINABLE_SECONDS = 60.0
"""As in `dispatcher_drainable_messages`."""
LAG = 20
"""Seconds a value is old when it is used: 5 until it is read, 15 until it is scraped."""

Demand: TypeAlias = Callable[[float, float], float]
"""Messages handled per second and drainable messages → the value that is scaled on."""


class Day(NamedTuple):
    """Messages per second at night and at the peak, a campaign that comes at once at nine; what one
    provider lets pass and how long one of them is out, from 14:00. Times in seconds."""

    night: float = 2_500
    peak: float = sizing.PEAK
    campaign: float = 2_000_000
    providers: int = 4
    provider_rate: float = 25_000
    outage: int = 1_200

    def arriving(self, at: int) -> float:
        """Messages per second."""
        hour = at / 3600
        noon = math.exp(-(((hour - 12) / 2.6) ** 2))
        evening = 0.5 * math.exp(-(((hour - 19.5) / 1.6) ** 2))
        return self.night + (self.peak - self.night) * min(1.0, noon + evening)

    def is_out(self, provider: int, at: int) -> bool:
        """Whether a provider takes nothing."""
        return provider == 0 and 14 * 3600 <= at < 14 * 3600 + self.outage


class Moment(NamedTuple):
    """What was so at the end of one second: pods that work, messages that came in it and that wait,
    seconds that the latest to leave had waited at the providers that were never out, and at the
    other."""

    pods: int
    arrived: float
    backlog: float
    delay: float
    delay_after_outage: float


class Course(NamedTuple):
    """A simulated day: a moment per second, and how many messages waited how many seconds."""

    moments: Sequence[Moment]
    waited: dict[int, float]

    @property
    def pod_hours(self) -> float:
        """What has to be paid for."""
        return sum(moment.pods for moment in self.moments) / 3600

    def waited_at_most(self, share: float) -> int:
        """Seconds that this share of the messages did not exceed."""
        left = share * sum(self.waited.values())
        for seconds in sorted(self.waited):
            left -= self.waited[seconds]
            if left <= 0:
                return seconds
        return max(self.waited, default=0)


class Lane:
    """What waits for one provider, first in, first out."""

    def __init__(self) -> None:
        self.waiting = 0.0
        self._came: deque[tuple[int, float]] = deque()

    def add(self, at: int, count: float) -> None:
        """Messages that come."""
        self._came.append((at, count))
        self.waiting += count

    def send(self, now: int, count: float, waited: dict[int, float]) -> int:
        """Send the oldest; the seconds the last of them had waited."""
        delay = 0
        self.waiting -= count
        while count > 1e-6 and self._came:
            at, there = self._came.popleft()
            sent, delay = min(there, count), now - at
            waited[delay] = waited.get(delay, 0.0) + sent
            count -= sent
            if there > sent:
                self._came.appendleft((at, there - sent))
        return delay


class Fleet:
    """Worker pods: those that work, and those that start."""

    def __init__(self, pods: int, start_seconds: int) -> None:
        self.working = pods
        self._start_seconds = start_seconds
        self._starting: deque[tuple[int, int]] = deque()

    @property
    def ordered(self) -> int:
        """How many there should be."""
        return self.working + sum(count for _, count in self._starting)

    def begin(self, now: int) -> None:
        """Let those work that have started by now."""
        while self._starting and self._starting[0][0] <= now:
            self.working += self._starting.popleft()[1]

    def order(self, now: int, pods: int) -> None:
        """Start or end pods; those end first that have not begun."""
        change = pods - self.ordered
        if change > 0:
            self._starting.append((now + self._start_seconds, change))
        while change < 0 and self._starting:
            at, count = self._starting.pop()
            change += count
            if change > 0:
                self._starting.append((at, change))
        self.working += min(change, 0)


def most(handled: float, drainable: float) -> float:
    """The query of the manifest: what is sent, or what could be within a minute."""
    return max(handled, drainable / DRAINABLE_SECONDS)


def backlog_alone(handled: float, drainable: float) -> float:
    """What is left of it without the rate at which workers send."""
    return drainable / DRAINABLE_SECONDS


def simulate(
    day: Day, capacity: float, rule: Rule, demand: Demand = most, start: int = 40, end: int = DAY
) -> Course:
    """A day until `end`; `capacity` in messages per second and pod, `start` in seconds until a pod
    that was ordered works. A rule whose bounds are equal is a fixed number of pods."""
    lanes = [Lane() for _ in range(day.providers)]
    scaler, fleet = Autoscaler(rule), Fleet(rule.least, start)
    handled: deque[float] = deque(maxlen=RATE_WINDOW)
    seen: deque[float] = deque(maxlen=LAG)
    moments: list[Moment] = []
    waited: dict[int, float] = {}
    for now in range(end):
        fleet.begin(now)
        arrived = day.arriving(now) + (day.campaign if now == 9 * 3600 else 0)
        for lane in lanes:
            lane.add(now, arrived / day.providers)
        sent, delays = _second(day, lanes, now, fleet.working * capacity, waited)
        handled.append(sent)
        seen.append(demand(sum(handled) / len(handled), _drainable(day, lanes, now)))
        if now % SYNC_SECONDS == 0:
            fleet.order(now, scaler.decide(now, seen[0], fleet.ordered))
        backlog = sum(lane.waiting for lane in lanes)
        moments.append(Moment(fleet.ordered, arrived, backlog, max(delays[1:]), delays[0]))
    return Course(moments, waited)


def _second(
    day: Day, lanes: Sequence[Lane], now: int, room: float, waited: dict[int, float]
) -> tuple[float, list[int]]:
    """Send for one second: how many, and the delay of each provider."""
    ready = [
        0.0 if day.is_out(number, now) else min(lane.waiting, day.provider_rate)
        for number, lane in enumerate(lanes)
    ]
    share = min(1.0, room / (sum(ready) or 1.0))
    delays = [
        lane.send(now, count * share, waited) for lane, count in zip(lanes, ready, strict=True)
    ]
    return sum(ready) * share, delays


def _drainable(day: Day, lanes: Sequence[Lane], now: int) -> float:
    return sum(
        min(lane.waiting, day.provider_rate * DRAINABLE_SECONDS)
        for number, lane in enumerate(lanes)
        if not day.is_out(number, now)
    )


def table(courses: dict[str, Course]) -> figures.Table:
    """A column for each way to provide workers."""
    found = courses.values()
    rows: list[tuple[str, Callable[[Course], str]]] = [
        ("pods, at most", lambda course: str(max(item.pods for item in course.moments))),
        ("pod hours", lambda course: figures.number(course.pod_hours)),
        ("worst delay, s", lambda course: f"{max(item.delay for item in course.moments):,.0f}"),
        (
            "worst delay at the provider that was out, s",
            lambda course: f"{max(item.delay_after_outage for item in course.moments):,.0f}",
        ),
        ("99 % of all messages waited at most, s", lambda course: str(course.waited_at_most(0.99))),
        (
            "messages waiting, at most",
            lambda course: f"{max(item.backlog for item in course.moments):,.0f}",
        ),
    ]
    return figures.Table(
        ("on the day", *courses), [(words, *map(shown, found)) for words, shown in rows]
    )


def main(args: list[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="./run bench autoscale", description=__doc__)
    parser.add_argument("--manifest", type=Path, default=MANIFEST, help="ScaledObject or HPA")
    parser.add_argument("--peak", type=float, default=sizing.PEAK, help="messages per second")
    parser.add_argument("--start", type=int, default=40, help="seconds until a pod works")
    parser.add_argument("--hours", type=float, default=24.0, help="how much of the day")
    parser.add_argument("--page", type=Path, help="also write the table there, between its marks")
    options = parser.parse_args(args)
    rule, cost = read_rule(options.manifest), sizing.costs().sending["together"].worker
    day, capacity = Day(peak=options.peak), 1e6 / cost
    enough = math.ceil(options.peak / rule.target)
    fixed = rule._replace(least=enough, most=enough)
    ways: dict[str, tuple[Rule, Demand]] = {
        "autoscaled": (rule, most),
        "by backlog alone": (rule, backlog_alone),
        f"always {enough}": (fixed, most),
        f"always {rule.most}": (rule._replace(least=rule.most), most),
    }
    end = round(options.hours * 3600)
    courses = {
        name: simulate(day, capacity, kept, demand, options.start, end)
        for name, (kept, demand) in ways.items()
    }
    title = f"a day with {options.peak:,.0f} messages/s at noon, {cost:.0f} µs per message"
    found = table(courses)
    figures.print_table(title, found)
    if options.page is not None:
        page: Path = options.page
        page.write_text(MARK.sub(lambda _: figures.markdown(found) + "\n", page.read_text()))
    if find_spec("matplotlib") is None:
        print('not drawn: matplotlib is missing (pip install "dispatcher[bench]")')
        return
    auto = courses["autoscaled"]
    path = machine.RESULTS / "autoscale.png"
    autoscale_plot.draw(auto.moments, enough, day.outage / 3600, title, path)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
