"""Sizing: what a cluster needs for a rate of messages, computed from the kept results.

Costs are CPU time per message, so a worker process needs a core of its own. `together` adds to
`single` what TLS, slow answers and many lanes each cost above it.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from benchmarks import figures, machine

PEAK = 68_316
"""Messages per second, one request each."""
SCENARIOS = ("single", "tls", "slow", "lanes")
MARK = re.compile(r"(?<=<!-- sizing -->\n).*?(?=<!-- end -->)", re.DOTALL)


class Load(NamedTuple):
    """What is asked for: messages per second, seconds a provider takes to answer, and the share of
    everything that stays free."""

    rate: float = PEAK
    answer: float = 0.15
    headroom: float = 0.3

    @property
    def usable(self) -> float:
        """The share that may be used."""
        return 1 - self.headroom


class Sending(NamedTuple):
    """CPU per message sent, in µs."""

    worker: float
    store: float


class Costs(NamedTuple):
    """What was measured: `sending` by scenario, CPU of the store per recipient submitted in calls
    of 1,000 and of one (µs), recipients per second of an API process in both, and bytes per message
    queued and settled."""

    sending: Mapping[str, Sending]
    store_many: float
    store_one: float
    api_many: float
    api_one: float
    queued: float
    settled: float


Need: TypeAlias = tuple[str, Callable[[Sending], float]]
"""Something needed, with its formula in words, and how much of it for a scenario."""


def main(args: list[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.sizing", description=__doc__)
    parser.add_argument("--rate", type=float, default=PEAK, help="messages per second")
    parser.add_argument("--answer", type=float, default=0.15, help="of a provider, seconds")
    parser.add_argument("--headroom", type=float, default=0.3, help="share that stays free")
    parser.add_argument("--page", type=Path, help="also write the table there, between its marks")
    options = parser.parse_args(args)
    load = Load(options.rate, options.answer, options.headroom)
    found = table(costs(), load)
    figures.print_table(f"{load.rate:,.0f} messages/s", found)
    if options.page is not None:
        page: Path = options.page
        text = figures.markdown(found) + "\n"
        page.write_text(MARK.sub(lambda _: text, page.read_text()))


def costs() -> Costs:
    """The medians of the kept results. Raises SystemExit naming a result that is missing."""
    sending = {name: _sending(f"throughput-{name}") for name in SCENARIOS}
    single = sending["single"]
    more = [sending[name] for name in SCENARIOS[1:]]
    sending["together"] = Sending(
        single.worker + sum(max(0.0, cost.worker - single.worker) for cost in more),
        single.store + sum(max(0.0, cost.store - single.store) for cost in more),
    )
    ingest, memory = _median("ingest"), _median("memory")
    return Costs(
        sending,
        ingest("many_store_us"),
        ingest("one_store_us"),
        ingest("many_per_second"),
        ingest("one_per_second"),
        memory("queued_bytes"),
        memory("settled_bytes"),
    )


def table(cost: Costs, load: Load) -> figures.Table:
    """A row for each thing needed, with its formula; a column for each scenario."""
    needs = [
        *_to_send(load),
        *_to_submit("1,000", cost.store_many, cost.api_many, load),
        *_to_submit("one", cost.store_one, cost.api_one, load),
        ("store, GB, an hour queued: 3,600 × r × q", lambda _: load.rate * cost.queued * 3.6e-6),
        ("store, GB, an hour settled: 3,600 × r × k", lambda _: load.rate * cost.settled * 3.6e-6),
    ]
    sending = cost.sending.values()
    rows = [(words, *(_shown(needed(each)) for each in sending)) for words, needed in needs]
    return figures.Table(("needed", *(f"`{name}`" for name in cost.sending)), rows)


def _to_send(load: Load) -> list[Need]:
    connections = math.ceil(load.rate * load.answer / load.usable)

    def processes(sending: Sending) -> int:
        return math.ceil(load.rate * sending.worker / 1e6 / load.usable)

    return [
        ("worker CPU per message, µs: w", lambda sending: sending.worker),
        ("worker processes: r × w ÷ f", processes),
        ("connections: n = r × a ÷ f", lambda _: connections),
        (
            "`concurrency`: n ÷ worker processes",
            lambda sending: math.ceil(connections / processes(sending)),
        ),
        ("store CPU per message sent, µs: s", lambda sending: sending.store),
    ]


def _to_submit(recipients: str, store: float, api: float, load: Load) -> list[Need]:
    """What calls with this many recipients need; the store also has to send what they bring."""

    def cores(sending: Sending) -> float:
        return load.rate * (sending.store + store) / 1e6

    calls = f"calls of {recipients}"
    return [
        (f"{calls}, store CPU per recipient, µs: e", lambda _: store),
        (f"{calls}, cores of stores: r × (s + e)", cores),
        (f"{calls}, stores: cores ÷ f", lambda sending: math.ceil(cores(sending) / load.usable)),
        (f"{calls}, API processes: r ÷ p ÷ f", lambda _: math.ceil(load.rate / api / load.usable)),
    ]


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else figures.number(value)


def _sending(name: str) -> Sending:
    median = _median(name)
    return Sending(median("worker_cpu_us_per_message"), median("store_cpu_us_per_message"))


def _median(name: str) -> Callable[[str], float]:
    result = machine.saved(name).get(name)
    if result is None:
        raise SystemExit(f"{name}.json is missing: its benchmark has to run first")
    return lambda figure: float(result["summary"][figure]["median"])


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
