"""What the demo says at its end: the account of the campaign, and whether it is complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from dispatcher.cli.demo_campaign import CARRIERS, RETRY_AFTER, Carrier
from dispatcher.cli.demo_check import Arrival, Use, Verdict, measure, pauses
from dispatcher.messages import Status
from dispatcher.store.inspector import BatchView, Known

THROTTLED = "20429"
_DETAIL = 44
"""Characters of a provider's own words that are shown."""


class Result(NamedTuple):
    """All that is known at the end of a campaign; `accepted` and `rejected` as `send` said."""

    submitted: int
    accepted: int
    rejected: int
    batch: BatchView
    records: Mapping[int, Known]
    arrivals: Sequence[Arrival]
    verdict: Verdict

    def paused(self) -> list[tuple[int, int]]:
        """When the provider had asked for less, in ns of its clock."""
        return pauses(self.arrivals, THROTTLED, RETRY_AFTER)

    def use(self, carrier: Carrier) -> Use:
        """How the limit of a carrier was kept and used."""
        own = [one for one in self.arrivals if one.to.startswith(carrier.prefix)]
        return measure(carrier.rate, own, self.paused())


def print_summary(console: Console, result: Result) -> None:
    """The whole account, at most 80 columns wide."""
    console.print()
    console.print(_account(result))
    console.print(_carriers(result))
    console.print("burst: as it arrived, queues of sockets included; promised: as it leaves us")
    console.print()
    _print_speed(console, result)
    _print_verdict(console, result)


def _account(result: Result) -> Table:
    counts, events = result.verdict.counts, result.batch.events
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    rows: list[tuple[str, int, Iterable[str]]] = [
        ("submitted", result.submitted, ()),
        ("accepted", result.accepted, [f"{result.rejected:,} rejected"]),
        ("sent", counts.get("sent", 0), ()),
        ("retried", events["retried"], ["another attempt after a passing fault"]),
        ("deferred", events["deferred"], ["put off while the provider throttled"]),
        ("dead", counts.get("dead", 0), _reasons(result, Status.DEAD)),
        ("suppressed", counts.get("suppressed", 0), _reasons(result, Status.SUPPRESSED)),
        ("unknown", counts.get("unknown", 0), _unclear(result.verdict)),
    ]
    waiting = sum(counts.get(name, 0) for name in ("queued", "scheduled"))
    if waiting:
        rows.append(("waiting", waiting, ["queued or scheduled, without an outcome"]))
    for name, count, notes in rows:
        first, *more = [*notes] or [""]
        table.add_row(name, f"{count:,}", first)
        for note in more:
            table.add_row("", "", note)
    return table


def _reasons(result: Result, wanted: Status) -> list[str]:
    """Codes with their count and the provider's own words, the most frequent first."""
    found = [record for status, _, record in result.records.values() if status is wanted]
    words = {record.code: record.detail or "" for record in found}
    counted = Counter(record.code for record in found).most_common()
    return [f"{count:>4,}  {code}  {_cut(words[code])}" for code, count in counted]


def _unclear(verdict: Verdict) -> list[str]:
    notes = [
        f"{count:>4,}  {code}: {reached:,} of them reached the provider"
        for code, (count, reached) in verdict.unclear.items()
    ]
    return [*notes, "perhaps sent: held for a person, not sent again"] if notes else []


def _cut(text: str) -> str:
    return text if len(text) <= _DETAIL else text[: _DETAIL - 1] + "…"


def _carriers(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("carrier", no_wrap=True, min_width=14)
    names = ("arrived", "limit", "rate/s", "used", "worst burst", "promised")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for carrier in CARRIERS:
        table.add_row(carrier.name, *_figures(carrier, result.use(carrier)))
    return table


def _figures(carrier: Carrier, use: Use) -> tuple[str, ...]:
    return (
        f"{use.arrivals:,}",
        f"{carrier.rate:,}",
        "–" if use.rate is None else f"{use.rate:,.1f}",
        "–" if use.used is None else f"{use.used:.1%}",
        f"{use.burst:.1f}",
        f"{use.promised:.0f}",
    )


def _print_speed(console: Console, result: Result) -> None:
    sent_ms = sorted(
        record.at_ms for status, _, record in result.records.values() if status is Status.SENT
    )
    if not sent_ms:
        return
    created_ms = result.batch.created_us / 1000
    seconds = max(0.001, (sent_ms[-1] - created_ms) / 1000)
    waits = [(at - created_ms) / 1000 for at in sent_ms]
    console.print(f"rate           {len(sent_ms) / seconds:,.0f}/s over {seconds:.1f} s")
    console.print(
        f"accept → sent  p50 {_quantile(waits, 0.5):.2f} s, p99 {_quantile(waits, 0.99):.2f} s"
        " (the backlog waits for the limits)"
    )
    times = len(result.paused())
    noun = "pause" if times == 1 else "pauses"
    console.print(f"throttled      {times} {noun} of {RETRY_AFTER:g} s, on the provider's word")


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def _print_verdict(console: Console, result: Result) -> None:
    verdict = result.verdict
    console.print(
        f"the simulator  {verdict.accepted:,} accepted, {verdict.distinct:,} distinct, "
        f"{verdict.twice:,} twice"
    )
    console.print()
    if not verdict.faults:
        console.print("every accepted message is accounted for", style="bold green")
        return
    console.print("not every accepted message is accounted for:", style="bold red")
    for fault in verdict.faults:
        console.print(f"  {fault}", style="red", soft_wrap=True)
