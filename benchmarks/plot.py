"""Plot: draws results/*.json as PNG files beside them. Needs matplotlib (extra `bench`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.figures import Spread, number
from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY, GREEN = "#3465a4", "#e07b39", "#9aa0a6", "#4e9a57"
WIDTH = 9.0
DPI = 120

Results = Mapping[str, Mapping[str, Any]]
Bar = tuple[str, Spread, str, str]
"""Label, value, colour, note behind the value."""


def main(args: list[str]) -> None:
    """Command line of the plots."""
    argparse.ArgumentParser(prog="./run bench plot", description=__doc__).parse_args(args)
    if find_spec("matplotlib") is None:
        print('plot: matplotlib is missing (pip install "dispatcher[bench]")', file=sys.stderr)
        raise SystemExit(1)
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rc("font", size=10)
    matplotlib.rc("axes.spines", top=False, right=False)
    found = machine.saved("*")
    for draw in (_throughput, _batched, _transport, _ingest, _latency, _memory):
        draw(found)


def _throughput(found: Results) -> None:
    names = ("single", "slow", "lanes", "tls", "aiohttp")
    bars: list[Bar] = []
    for name in names:
        if (result := found.get(f"throughput-{name}")) is not None:
            summary = result["summary"]
            note = (
                "" if name == "single" else f"  {number(summary['to_single']['median'])} × single"
            )
            bars.append((f"{name}\n{_short(name)}", summary["sent_per_second"], BLUE, note))
            if name != "aiohttp":
                label = "bare loop, same sink"
                bars.append((label, summary["bare_per_second"], GREY, ""))
    _bars(found, "throughput", "Messages per second, one per request, one worker process", bars)


def _short(name: str) -> str:
    return {
        "single": "256 in flight",
        "slow": "answers after 150 ± 50 ms",
        "lanes": "200 lanes × 5 tenants",
        "tls": "certificate verified",
        "aiohttp": "the other transport",
        "webhook": "500 per request",
        "sendgrid": "1,000 per request",
    }[name]


def _batched(found: Results) -> None:
    bars: list[Bar] = [
        (f"{name}\n{_short(name)}", found[f"throughput-{name}"]["summary"]["sent_per_second"],
         BLUE, "")
        for name in SCENARIOS
        if name in ("single", "webhook", "sendgrid") and f"throughput-{name}" in found
    ]  # fmt: skip
    _bars(found, "batched", "Messages per second, many per request, one worker process", bars)


def _transport(found: Results) -> None:
    kept = found.get("transport", {})
    bars: list[Bar] = []
    for kind, words in (("plain", "plain"), ("tls", "TLS")):
        if kind in kept:
            summary = kept[kind]["summary"]
            note = f"  {number(summary['lean_to_aiohttp']['median'])} × aiohttp"
            bars.append((f"{words}: bare loop", summary["bare_per_second"], GREY, ""))
            bars.append((f"{words}: lean", summary["lean_per_second"], BLUE, note))
            bars.append((f"{words}: aiohttp", summary["aiohttp_per_second"], ORANGE, ""))
    _bars(found, "transport", "POST requests per second by client, 256 connections", bars)


def _ingest(found: Results) -> None:
    words = {
        "direct_per_second": "direct",
        "file_per_second": "dispatcher send, CSV file",
        "many_per_second": "API, 1,000 recipients a call",
        "one_per_second": "API, one recipient a call",
    }
    summary = found.get("ingest", {}).get("summary", {})
    bars: list[Bar] = [
        (text, summary[name], BLUE, "") for name, text in words.items() if name in summary
    ]
    _bars(found, "ingest", "Recipients per second into the queue", bars)


def _memory(found: Results) -> None:
    words = {"queued_bytes": "queued, 100 per entry", "settled_bytes": "settled"}
    summary = found.get("memory", {}).get("summary", {})
    bars: list[Bar] = [
        (text, summary[name], GREEN, "") for name, text in words.items() if name in summary
    ]
    _bars(found, "memory", "Bytes of store per message", bars)


def _bars(found: Results, name: str, title: str, bars: Sequence[Bar]) -> None:
    """Horizontal bars of medians, with the spread as a whisker and the value behind it."""
    if not bars:
        return

    def draw(axes: Axes) -> None:
        labels, spreads, colours, notes = zip(*bars, strict=True)
        medians = [spread["median"] for spread in spreads]
        below = [spread["median"] - spread["low"] for spread in spreads]
        above = [spread["high"] - spread["median"] for spread in spreads]
        at = list(range(len(bars)))
        axes.barh(at, medians, color=colours, height=0.7)
        axes.errorbar(medians, at, xerr=[below, above], fmt="none", ecolor="black", capsize=3)
        widest = max(spread["high"] for spread in spreads)
        for row, (spread, median, note) in enumerate(zip(spreads, medians, notes, strict=True)):
            axes.text(spread["high"] + widest * 0.015, row, number(median) + note, va="center")
        axes.set_yticks(at, labels)
        axes.invert_yaxis()
        axes.set_xlim(0, widest * 1.3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)

    _save(found, name, title, 1.3 + 0.45 * len(bars), draw, "median; whiskers: lowest to highest")


def _latency(found: Results) -> None:
    kept = found.get("latency")
    if kept is None:
        return

    def draw(axes: Axes) -> None:
        for (count, phase), colour in zip(kept["processes"].items(), (BLUE, ORANGE), strict=False):
            values = phase["values"]["arrival"]
            shares = [(at + 1) / len(values) * 100 for at in range(len(values))]
            found = phase["summary"]["arrival"]
            label = f"{count} worker process{'es' if count != '1' else ''}"
            label += f": p50 {found['p50']:,.0f} ms, p99 {found['p99']:,.0f} ms (dotted)"
            axes.step(values, shares, where="post", color=colour, label=label)
            axes.axvline(found["p99"], color=colour, linestyle=":", linewidth=1)
        axes.set_xlabel("ms from the start of the call to arrival at the sink")
        axes.set_ylabel("% of urgent messages")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 101)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", framealpha=0.95, edgecolor="none")

    title = (
        f"Urgent messages at {kept['urgent']}/s under {kept['bulk']:,} bulk on one lane at "
        f"{kept['rate']:,}/s"
    )
    _save(found, "latency", title, 4.5, draw, "open loop")


def _save(
    found: Results, name: str, title: str, height: float, draw: Callable[[Axes], None], note: str
) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(WIDTH, height), layout="constrained")
    draw(axes)
    source = found.get(name) or found["throughput-single"]
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    conditions = _machine(source["conditions"], note)
    figure.supxlabel(conditions, x=0.01, ha="left", fontsize=8, color="#555")
    path = machine.RESULTS / f"{name}.png"
    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)
    print(f"drew {path.name}")


def _machine(found: Mapping[str, Any], note: str) -> str:
    server = f", Valkey {found['server']} (AOF {found['append_only_file']})"
    return (
        f"{found['cores']} cores of {found['cpu']}, Python {found['python']}"
        f"{server if found['server'] else ''} · all on one machine · {note}"
    )
