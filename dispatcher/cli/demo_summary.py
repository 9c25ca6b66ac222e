"""What the demo says at its end: the account of every message, and whether it is complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from dispatcher.cli.demo_campaign import CARRIERS, Carrier
from dispatcher.cli.demo_check import Arrival, Submitted, Verdict
from dispatcher.cli.demo_limits import Use, measure, pauses
from dispatcher.cli.demo_setup import BATCH, BATCH_WAIT, THROTTLES
from dispatcher.messages import Status

CODES = "codes"
_DETAIL = 40
"""Characters of a provider's own words that are shown."""
_ENDS = ("sent", "dead", "suppressed", "unknown")
_WAITING = ("queued", "scheduled")


class Outcome(NamedTuple):
    """The end of messages that belong together: a campaign, or the codes. `events` counts retries
    and deferrals, `waits` has the seconds from acceptance to sent, the shortest first."""

    submitted: Submitted
    rejected: int
    events: Mapping[str, int]
    waits: Sequence[float]
    verdict: Verdict

    @property
    def name(self) -> str:
        """The channel of a campaign, or "codes"."""
        return self.submitted.name

    def count(self, *statuses: str) -> int:
        """Messages with one of these statuses."""
        return sum(self.verdict.counts.get(status, 0) for status in statuses)


class Result(NamedTuple):
    """All that is known at the end. `faults` is a line per fault of all kinds; `repeated` posts
    were made twice; `arrivals` are per channel, in order."""

    outcomes: Sequence[Outcome]
    arrivals: Mapping[str, Sequence[Arrival]]
    repeated: int
    faults: Sequence[str]

    def paused(self, channel: str) -> list[tuple[int, int]]:
        """When the provider of a channel had asked for less, in ns of its clock."""
        return pauses(self.arrivals[channel], *THROTTLES[channel])

    def use(self, carrier: Carrier, rate: int) -> Use:
        """How the limit of a carrier was kept and used."""
        own = [one for one in self.arrivals[carrier.channel] if carrier.serves(one.to)]
        campaign = next(one for one in self.outcomes if one.name == carrier.channel)
        backlog = frozenset(campaign.submitted.recipients)
        request = min(BATCH, ceil(rate * BATCH_WAIT)) if carrier.channel == "email" else 0
        return measure(rate, own, self.paused(carrier.channel), backlog, request)


def print_summary(console: Console, result: Result) -> None:
    """The whole account, at most 80 columns wide."""
    console.print()
    console.print(_account(result.outcomes))
    console.print()
    console.print(_reasons(result.outcomes))
    console.print(_carriers(result))
    console.print("burst: as it arrived, queues of sockets included; promised: as it leaves us")
    console.print()
    console.print(_speed(result.outcomes))
    console.print()
    _print_providers(console, result)
    _print_verdict(console, result.faults)


def _account(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    table.add_column("", no_wrap=True, min_width=13)
    for one in outcomes:
        table.add_column(one.name, justify="right", no_wrap=True, min_width=8)
    table.add_column("", no_wrap=True)
    rows = {
        "submitted": ([len(one.submitted.recipients) for one in outcomes], ""),
        "accepted": ([one.submitted.accepted for one in outcomes], ""),
        "rejected": ([one.rejected for one in outcomes], ""),
        "retried": ([one.events["retried"] for one in outcomes], "attempts after passing faults"),
        "deferred": ([one.events["deferred"] for one in outcomes], "throttled, or not at fault"),
        **{status: ([one.count(status) for one in outcomes], "") for status in _ENDS},
    }
    if any(one.count(*_WAITING) for one in outcomes):
        rows["waiting"] = ([one.count(*_WAITING) for one in outcomes], "without an outcome")
    for name, (counts, note) in rows.items():
        table.add_row(name, *(f"{count:,}" for count in counts), note)
    return table


def _reasons(outcomes: Sequence[Outcome]) -> Table:
    """Why messages were not sent."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=13)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for one in outcomes:
        for status in (Status.DEAD, Status.SUPPRESSED):
            for code, count, words in _codes(one.submitted, status):
                table.add_row(status.word, one.name, f"{count:,}", code, words)
        for code, (count, reached) in one.verdict.unclear.items():
            words = f"{reached:,} reached the provider; held, not repeated"
            table.add_row(Status.UNKNOWN.word, one.name, f"{count:,}", code, words)
    return table


def _codes(submitted: Submitted, wanted: Status) -> list[tuple[str, int, str]]:
    """Codes with their count and the provider's own words, the most frequent first."""
    found = [record for status, _, record in submitted.records.values() if status is wanted]
    words = {record.code or "": record.detail or "" for record in found}
    counted = Counter(record.code or "" for record in found).most_common()
    return [(code, count, _cut(words[code])) for code, count in counted]


def _cut(text: str) -> str:
    return text if len(text) <= _DETAIL else text[: _DETAIL - 1] + "…"


def _carriers(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("carrier", no_wrap=True, min_width=14)
    names = ("arrived", "limit", "rate/s", "used", "worst burst", "promised")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for carrier in CARRIERS:
        if carrier.rate is not None:
            use = result.use(carrier, carrier.rate)
            table.add_row(carrier.name, *_figures(carrier.rate, use))
    return table


def _figures(rate: int, use: Use) -> tuple[str, ...]:
    return (
        f"{use.arrivals:,}",
        f"{rate:,}",
        "–" if use.rate is None else f"{use.rate:,.1f}",
        "–" if use.used is None else f"{use.used:.1%}",
        f"{use.burst:.1f}",
        f"{use.promised:.0f}",
    )


def _speed(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    table.add_column("accept → sent", no_wrap=True, min_width=13)
    for name in ("p50", "p99", "rate"):
        table.add_column(name, justify="right", no_wrap=True, min_width=8)
    table.add_column("", no_wrap=True)
    for one in outcomes:
        if one.waits:
            table.add_row(one.name, *_pace(one))
    return table


def _pace(outcome: Outcome) -> tuple[str, ...]:
    waits = outcome.waits
    middle, late = (f"{_quantile(waits, share):.3f} s" for share in (0.5, 0.99))
    if outcome.name == CODES:
        return middle, late, "", "urgent, over the same lanes as sms"
    rate = len(waits) / max(0.001, waits[-1])
    return middle, late, f"{rate:,.0f}/s", "the backlog waits for the limits"


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def _print_providers(console: Console, result: Result) -> None:
    verdicts = [one.verdict for one in result.outcomes]
    for channel, throttle in THROTTLES.items():
        times = len(result.paused(channel))
        noun = "pause" if times == 1 else "pauses"
        said = f"{channel}: {times} {noun} of {throttle.seconds:g} s, on the provider's word"
        console.print(f"throttled      {said}")
    console.print(f"posted twice   {result.repeated:,} codes, each under its key")
    console.print(
        f"the simulators {sum(one.accepted for one in verdicts):,} accepted, "
        f"{sum(one.distinct for one in verdicts):,} distinct, "
        f"{sum(one.twice for one in verdicts):,} twice"
    )


def _print_verdict(console: Console, faults: Sequence[str]) -> None:
    console.print()
    if not faults:
        console.print("every accepted message is accounted for", style="bold green")
        return
    console.print("not every accepted message is accounted for:", style="bold red")
    for fault in faults:
        console.print(f"  {fault}", style="red", soft_wrap=True)
