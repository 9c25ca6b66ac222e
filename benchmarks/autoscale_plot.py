"""Draws the simulated day of autoscale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.plot import BLUE, DPI, GREEN, GREY, ORANGE, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEP = 20
"""Seconds that one point of a line stands for: the worst of them."""
CLIPPED = 80_000
"""Messages per second at which the first plot ends: the campaign is far above it."""
OUTAGE = 14.0
"""Hour at which a provider goes."""


class Moment(Protocol):
    """See benchmarks.autoscale."""

    @property
    def pods(self) -> int: ...
    @property
    def arrived(self) -> float: ...
    @property
    def backlog(self) -> float: ...
    @property
    def delay(self) -> float: ...
    @property
    def delay_after_outage(self) -> float: ...


def draw(moments: Sequence[Moment], fixed: int, outage: float, title: str, path: Path) -> None:
    """Load, pods, backlog and delay over the hours; `fixed` is the number of pods to compare with,
    `outage` how many hours a provider is out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rc("axes.spines", top=False, right=False)
    figure, (load, pods, backlog, delay) = pyplot.subplots(
        4, 1, figsize=(WIDTH, 9), sharex=True, layout="constrained"
    )
    hours = [at / 3600 for at in range(0, len(moments), STEP)]

    def line(axes: Axes, value: Callable[[Moment], float], colour: str, label: str) -> None:
        points = [
            max(value(moment) for moment in moments[at : at + STEP])
            for at in range(0, len(moments), STEP)
        ]
        axes.plot(hours, points, color=colour, label=label, linewidth=1.4)

    line(load, lambda moment: moment.arrived, BLUE, "messages that come")
    load.set_ylim(0, CLIPPED)
    load.text(9.1, CLIPPED * 0.9, "a campaign, at once", color="#555", clip_on=True)
    load.set_ylabel("messages/s")
    line(pods, lambda moment: moment.pods, GREEN, "by the rule of the manifests")
    pods.set_yticks(range(0, fixed + 3, 2))
    pods.axhline(fixed, color=GREY, linestyle="--", linewidth=1, label=f"always {fixed}")
    pods.set_ylabel("worker pods")
    line(backlog, lambda moment: moment.backlog / 1e6, ORANGE, "messages that wait")
    backlog.set_ylabel("million messages")
    line(delay, lambda moment: max(1.0, moment.delay_after_outage), ORANGE, "provider 1")
    line(delay, lambda moment: max(1.0, moment.delay), BLUE, "the other providers")
    delay.set_yscale("log")
    delay.set_ylabel("delay, s (at least 1)")
    delay.set_xlabel("hour")
    _finish((load, pods, backlog, delay), len(moments) / 3600, outage)
    figure.suptitle(title[0].upper() + title[1:], x=0.01, ha="left", fontweight="bold")
    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)
    print(f"drew {path.name}")


def _finish(plots: Sequence[Axes], hours: float, outage: float) -> None:
    for axes in plots:
        axes.grid(alpha=0.3)
        axes.set_xlim(0, hours)
        axes.set_xticks(range(0, int(hours) + 1, 2))
        if axes.get_yscale() != "log":
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if hours > OUTAGE:
            axes.axvspan(
                OUTAGE, OUTAGE + outage, color=ORANGE, alpha=0.15, label="provider 1 is out"
            )
        axes.legend(loc="upper left", frameon=False)
