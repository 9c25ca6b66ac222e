"""Draws what `dispatcher top` tells: lines for a terminal of any width from 60 columns on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import set_cell_size
from rich.text import Text

from dispatcher.cli.figures import rate_text, span_text
from dispatcher.cli.top_view import LaneLine, LimitLine, View, ordered
from dispatcher.messages import CLASSES

WIDE, MEDIUM = 110, 76
"""From so many columns on there is more to see."""
BAR = 8
LANE_MOST = 32
LIMIT_LEAST = 20
WAITS = "waits for"
LIMITS_SHOWN = 3
CODES_SHOWN = 3
FULL, LOW = 0.95, 0.5
SIZES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
KEYS = "r rate  b backlog  d drain  e errors  n name  ↑↓ scroll  q quit"
KEYS_SHORT = "r b d e n sort  ↑↓ scroll  q quit"


class Look(NamedTuple):
    """What a person has chosen: the order of the lanes, and the first one shown."""

    order: str = "backlog"
    first: int = 0


class Column(NamedTuple):
    """One column behind the name of the lane; its title says what it sorts by, where it does."""

    title: str
    width: int
    draw: Callable[[LaneLine], Text]
    order: str = ""


class Fact(NamedTuple):
    """One figure of the header."""

    name: str
    value: str
    style: str = "bold"


def draw(view: View, look: Look, width: int, height: int, trouble: str = "") -> list[Text]:
    """The whole screen: `height` lines of at most `width` columns. `trouble` is why what is shown
    is of before."""
    head = [*_header(view, width, trouble), Text()]
    foot = [*_limits(view, width), _footer(width)]
    lanes = ordered(view.lanes, look.order)
    columns = _columns(width)
    name = width - sum(column.width + 1 for column in columns)
    room = max(1, height - len(head) - len(foot) - 2)
    body, shown = _fill(lanes[look.first :], columns, name, room)
    head.append(_titles(columns, name, look.order))
    foot.insert(0, _place(look.first, shown, len(lanes)))
    body += [Text()] * (height - len(head) - len(body) - len(foot))
    lines = [*head, *body, *foot][:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def table(view: View, order: str, width: int) -> list[Text]:
    """All lanes, for a printer or a file."""
    columns = _columns(width)
    name = width - sum(column.width + 1 for column in columns)
    lanes = ordered(view.lanes, order)
    body = [line for lane in lanes for line in _lane(lane, columns, name)]
    return [
        *_header(view, width),
        Text(),
        _titles(columns, name, order),
        *body,
        *_limits(view, width),
    ]


def page(width: int, height: int) -> int:
    """Lanes to scroll by at a time."""
    return max(1, height - 12)


def _header(view: View, width: int, trouble: str = "") -> Iterator[Text]:
    title, clock = Text("dispatcher top", "bold"), f"{view.at[11:19]}Z"
    right = Text(f"{trouble} since {clock}", "bold red") if trouble else Text(clock, "dim")
    yield title.append(" " * (width - title.cell_len - right.cell_len)).append_text(right)
    yield _facts(_messages(view), width)
    yield _facts(_means(view), width)


def _messages(view: View) -> Iterator[Fact]:
    yield Fact("", f"{view.rate:,.0f}/s now")
    yield Fact("sent", f"{view.sent:,}")
    yield Fact("waiting", f"{view.waiting:,}")
    if view.dead:
        yield Fact("dead", f"{view.dead:,}", "bold red")
    if (elsewhere := view.unfinished - view.waiting) > 0:
        yield Fact("held or scheduled", f"{elsewhere:,}")


def _means(view: View) -> Iterator[Fact]:
    alive, hosts = sum(view.workers.values()), len(view.workers)
    on = f" on {hosts} hosts" if hosts > 1 else ""
    yield Fact("workers", f"{alive:,}{on}" if alive else "none", "bold" if alive else "bold red")
    yield Fact("store", _memory(view))
    for name, state in view.breakers.items():
        yield Fact("breaker", f"{name} {state}", "bold red")
    if view.waiting:
        seconds = view.drain_seconds
        done = "never at this rate" if seconds is None else span_text(seconds) or "now"
        yield Fact("all done in" if seconds is not None else "all done", done)


def _facts(facts: Iterable[Fact], width: int) -> Text:
    """As many of them as there is room for."""
    line = Text()
    for fact in facts:
        told = Text("   " if line else "").append(f"{fact.name} " if fact.name else "", "dim")
        told.append(fact.value, fact.style)
        if line.cell_len + told.cell_len <= width:
            line.append_text(told)
    return line


def _memory(view: View) -> str:
    most = f" of {_size(view.memory_limit)}" if view.memory_limit else ""
    return f"{_size(view.memory)}{most}"


def _size(count: int) -> str:
    unit, size = next((item for item in SIZES if count >= item[1]), SIZES[-1])
    return f"{count / size:.1f} {unit}"


def _limits(view: View, width: int) -> Iterator[Text]:
    """The limits that bind, those with most behind them first."""
    if not view.limits:
        return
    line = Text().append("limits that bind: ", "dim")
    for at, limit in enumerate(view.limits):
        told = (", " if at else "") + _told(limit)
        more = f" and {len(view.limits) - at} more"
        if at and (at == LIMITS_SHOWN or line.cell_len + len(told) + len(more) > width):
            line.append(more, "dim")
            break
        line.append(told, "yellow" if limit.why else "")
    yield line


def _told(limit: LimitLine) -> str:
    rate = "" if limit.rate is None else f" {_rounded(limit.rate)}"
    facts = [limit.why] if limit.why else []
    if limit.lanes > 1:
        facts.append(f"{limit.lanes} lanes")
    return f"{limit.name}{rate}" + (f" ({', '.join(facts)})" if facts else "")


def _footer(width: int) -> Text:
    return Text(KEYS if width >= len(KEYS) else KEYS_SHORT, "dim")


def _place(first: int, shown: int, total: int) -> Text:
    if not total:
        return Text("no lanes: nothing has been submitted lately", "dim")
    if shown == total:
        return Text(f"{total} lane{'s' if total > 1 else ''}", "dim")
    return Text(f"lanes {first + 1:,} to {first + shown:,} of {total:,}", "dim")


def _titles(columns: Sequence[Column], name: int, order: str) -> Text:
    line = Text(set_cell_size("lane", name), "bold underline" if order == "name" else "dim")
    for column in columns:
        line.append(" ")
        style = "bold underline" if column.order == order else "dim"
        title = Text().append(column.title, style)
        title.align("left" if column.title == WAITS else "right", column.width)
        line.append_text(title)
    return line


def _fill(
    lanes: Sequence[LaneLine], columns: Sequence[Column], name: int, room: int
) -> tuple[list[Text], int]:
    """As many lanes as there is room for, and how many these are."""
    lines: list[Text] = []
    for at, lane in enumerate(lanes):
        found = _lane(lane, columns, name)
        if len(lines) + len(found) > room:
            return lines, at
        lines += found
    return lines, len(lanes)


def _lane(lane: LaneLine, columns: Sequence[Column], name: int) -> list[Text]:
    """One line, and another one where something is out of the ordinary."""
    line = Text(_shortened(lane.lane, name), "" if lane.backlog or lane.rate >= 0.05 else "dim")
    for column in columns:
        cell = column.draw(lane)
        line.append(" " * (1 + column.width - cell.cell_len))
        line.append_text(cell)
    note = _note(lane)
    return [line, Text("  ").append_text(note)] if note else [line]


def _shortened(name: str, width: int) -> str:
    """What tells lanes apart is at the end of their names as well."""
    if len(name) <= width:
        return set_cell_size(name, width)
    tail = (width - 1) // 2
    return set_cell_size(f"{name[: width - 1 - tail]}…{name[-tail:]}", width)


def _note(lane: LaneLine) -> Text:
    note = Text()
    if lane.state:
        note.append(f"{lane.state} ", "bold yellow" if lane.state == "suspended" else "bold red")
        note.append(lane.reason)
    codes = [f"{code} {_rate(rate)}/s" for code, rate in list(lane.codes.items())[:CODES_SHOWN]]
    if codes:
        note.append("; " if note else "")
        note.append(f"errors {', '.join(codes)}", "red")
    return note


def _columns(width: int) -> Sequence[Column]:
    rate = Column("rate/s", 7, lambda lane: Text(_rate(lane.rate)), "rate")
    used = Column("used", 5, _percent)
    done = Column("done in", 7, _done, "drain")
    if width < MEDIUM:
        return rate, used, Column("waiting", 7, lambda lane: _count(lane.backlog), "backlog"), done
    classes = [Column(name, 6, _waiting(name), "backlog") for name in CLASSES]
    oldest = Column("oldest", 6, lambda lane: Text(span_text(lane.oldest_seconds)))
    errors = Column("err/s", 5, _failed, "errors")
    if width < WIDE:
        return rate, used, *classes, done, oldest, errors
    allowed = Column(
        "limit", 8, lambda lane: Text("" if lane.allowed is None else _rounded(lane.allowed))
    )
    columns = rate, allowed, Column("used", BAR + 5, _bar), *classes, done, oldest, errors
    rest = width - LANE_MOST - sum(column.width + 1 for column in columns) - 1
    return (*columns, Column(WAITS, rest, _binding(rest))) if rest >= LIMIT_LEAST else columns


def _waiting(class_: str) -> Callable[[LaneLine], Text]:
    style = "bold magenta" if class_ == CLASSES[0] else ""
    return lambda lane: _count(lane.waiting[class_], style)


def _count(number: int, style: str = "") -> Text:
    return Text(_short(number), style) if number else Text("·", "dim")


def _short(number: float) -> str:
    """At most five characters."""
    if number < 10_000:
        return f"{number:.0f}"
    for unit, size in (("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if number < 999.5 * size:
            return f"{number / size:.3g}{unit}"
    return "many"


def _rate(rate: float) -> str:
    if rate < 0.05:
        return "0"
    return f"{rate:.1f}" if rate < 10 else _short(rate)


def _rounded(rate: float) -> str:
    return rate_text(float(f"{rate:.3g}"))


def _binding(width: int) -> Callable[[LaneLine], Text]:
    return lambda lane: Text(_shortened(lane.limit, width), "dim")


def _percent(lane: LaneLine) -> Text:
    if lane.used is None:
        return Text("·", "dim")
    return Text(f"{lane.used:.0%}", _heat(lane))


def _bar(lane: LaneLine) -> Text:
    if lane.used is None:
        return Text("·", "dim")
    filled = round(lane.used * BAR)
    bar = Text("━" * filled, _heat(lane)).append("━" * (BAR - filled), "bright_black")
    return bar.append_text(Text(f"{lane.used:>5.0%}"))


def _heat(lane: LaneLine) -> str:
    """A full lane is what is wanted while something waits; one that lags is worth a look."""
    if lane.used is not None and lane.used >= FULL:
        return "green"
    return "yellow" if lane.backlog and (lane.used or 0.0) < LOW else "cyan"


def _done(lane: LaneLine) -> Text:
    if not lane.backlog:
        return Text("")
    if lane.done_seconds is None:
        return Text("—", "red")
    return Text(span_text(lane.done_seconds) or "now")


def _failed(lane: LaneLine) -> Text:
    return Text(_rate(lane.failed), "red") if lane.failed >= 0.05 else Text("·", "dim")
