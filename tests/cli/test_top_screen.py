"""What `top` draws of given figures: it fits the terminal, is in order, and says what is wrong."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from dispatcher.cli.top_screen import Look, draw, table
from dispatcher.cli.top_view import ORDERS, LaneLine, LimitLine, View, ordered

LANE = LaneLine(
    "twilio-eu/sms/de", 40.0, 75.0, {"urgent": 0, "normal": 120, "bulk": 3400}, 80.0, 12.0, 0.0, {},
    "", "", "provider:twilio-eu",
)  # fmt: skip
LANES = [
    LANE,
    msgspec.structs.replace(
        LANE, lane="twilio-eu/sms/de-telekom/sender=+4915550006", rate=75.0, failed=2.5,
        codes={"30003": 2.0, "21610": 0.5},
    ),
    msgspec.structs.replace(
        LANE, lane="vonage/sms/fr", rate=0.0, done_seconds=None, state="suspended",
        reason="until 12:00:00Z: outage at the carrier, call +49 30 123456 and ask for the desk",
        waiting={"urgent": 0, "normal": 0, "bulk": 1_234_567},
    ),
    msgspec.structs.replace(
        LANE, lane="mail/email/google", allowed=None, waiting={"urgent": 7, "normal": 0, "bulk": 0},
        done_seconds=0.5,
    ),
]  # fmt: skip
VIEW = View(
    "2026-11-27T12:03:45+00:00", 155.0, 12_345_678, 1_238_094, 1_240_000, 12, 600.0,
    {"web-1": 2, "web-2": 2}, 12_345_678, 1_000_000_000, {"vonage": "open"},
    [LimitLine("provider:twilio-eu", "paused", 75.0, 2, 7040), LimitLine("quota", "", None, 1, 7)],
    LANES,
)  # fmt: skip
WIDTHS = (60, 76, 80, 100, 120, 200)


def screen(view: View = VIEW, width: int = 80, height: int = 24, **look: Any) -> list[str]:
    return [line.plain for line in draw(view, Look(**look), width, height)]


def lanes_of(lines: list[str]) -> list[str]:
    """The first letters of the lanes shown, from the top."""
    return [match[1] for line in lines if (match := re.match(r"([a-z]+)[\w-]*/", line))]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", [5, 16, 24, 60])
def test_it_fits_the_terminal(width: int, height: int) -> None:
    lines = draw(VIEW, Look(), width, height)
    assert len(lines) == height
    assert all(line.cell_len <= width for line in lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_figures_stand_under_their_titles(width: int) -> None:
    lines = screen(width=width, order="rate")
    title = next(line for line in lines if line.startswith("lane"))
    lane = next(line for line in lines if line.startswith("twilio"))
    for name, figure in (("rate/s", "75"), ("used", "100%")):
        ends = title.index(name) + len(name)
        assert lane[:ends].endswith(figure)


@pytest.mark.parametrize(
    "order, names",
    [
        ("rate", ["twilio-eu/sms/de-telekom/sender=+4915550006", "mail/email/google"]),
        ("backlog", ["vonage/sms/fr", "twilio-eu/sms/de"]),
        ("drain", ["vonage/sms/fr", "twilio-eu/sms/de"]),
        ("errors", ["twilio-eu/sms/de-telekom/sender=+4915550006", "mail/email/google"]),
        ("name", ["mail/email/google", "twilio-eu/sms/de"]),
    ],
)
def test_lanes_are_in_order(order: str, names: list[str]) -> None:
    assert [lane.lane for lane in ordered(LANES, order)][:2] == names
    assert order in ORDERS
    shown = lanes_of(screen(order=order, width=120))
    assert shown[:2] == [re.split(r"[/-]", name)[0] for name in names]


def test_the_header_tells_how_it_stands() -> None:
    head = "\n".join(screen(width=120)[:3])
    for told in (
        "155/s now", "sent 12,345,678", "waiting 1,238,094", "held or scheduled 1,906", "dead 12",
        "workers 4 on 2 hosts", "store 12.3 MB of 1.0 GB", "breaker vonage open",
        "all done in 10 min", "12:03:45Z",
    ):  # fmt: skip
        assert told in head


def test_what_is_wrong_is_told_below_its_lane() -> None:
    lines = screen(width=100)
    below = {line.split()[0]: lines[at + 1] for at, line in enumerate(lines[:-1]) if "/" in line}
    assert "suspended until 12:00:00Z: outage at the carrier" in below["vonage/sms/fr"]
    telekom = next(text for lane, text in below.items() if "telekom" in lane or "+49" in lane)
    assert telekom.strip() == "errors 30003 2.0/s, 21610 0.5/s"
    assert any("provider:twilio-eu 75/s (paused, 2 lanes), quota" in line for line in lines)


def test_trouble_with_the_store_is_told_with_the_time_of_the_figures() -> None:
    first = draw(VIEW, Look(), 80, 24, "the store does not answer")[0].plain
    assert first.endswith("the store does not answer since 12:03:45Z")


def test_more_lanes_than_lines_are_scrolled() -> None:
    many = [msgspec.structs.replace(LANE, lane=f"p/sms/c{at:03}") for at in range(100)]
    view = msgspec.structs.replace(VIEW, lanes=many)
    lines = screen(view, order="name", first=50)
    assert "p/sms/c050" in lines[5]
    shown = sum("p/sms/" in line for line in lines)
    assert f"lanes 51 to {50 + shown} of 100" in lines
    assert sum("p/sms/" in line.plain for line in table(view, "name", 80)) == 100


def test_without_lanes_it_says_so() -> None:
    view = msgspec.structs.replace(VIEW, lanes=[], limits=[], workers={}, waiting=0)
    text = "\n".join(screen(view))
    assert "no lanes" in text and "workers none" in text
