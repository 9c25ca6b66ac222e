"""Places where a process can be told to die or to stand still, to test what others make of it.

`DISPATCHER_FAILPOINT=after_send:3` kills the process as it passes `after_send` for the third time;
`after_claim:2:4.5` has it stand still for 4.5 seconds at its second claim instead. Several are
separated by commas. Without it, passing a place is the call of an empty function.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from dispatcher.errors import ConfigError

VARIABLE = "DISPATCHER_FAILPOINT"
PLACES = (
    "before_enqueue",
    "between_cells",
    "after_enqueue",
    "before_claim",
    "after_claim",
    "before_send",
    "after_send",
    "after_answer",
    "before_settle",
    "after_settle",
    "before_heartbeat",
    "after_heartbeat",
    "before_reclaim",
    "after_reclaim",
    "before_drain",
    "before_leave",
)
_LATER = ("after_send",)
"""What was written leaves the process at the end of the loop's turn: these strike after it."""


def _ignore(place: str) -> None:
    """Nothing is to happen anywhere."""


passed: Callable[[str], None] = _ignore
"""Called with the name of a place by whoever passes it."""


def arm(text: str) -> None:
    """Have what `DISPATCHER_FAILPOINT` says happen in this process. Raises ConfigError."""
    global passed
    orders = dict(_order(item.strip()) for item in text.split(",") if item.strip())
    passed = partial(_pass, orders, Counter[str]()) if orders else _ignore


def _order(item: str) -> tuple[tuple[str, int], float]:
    """Place and passage, and the seconds to stand still there, 0 to die."""
    place, _, rest = item.partition(":")
    number, _, seconds = rest.partition(":")
    if place not in PLACES:
        raise ConfigError(f"{VARIABLE}: no place {place!r} (known: {', '.join(PLACES)})")
    try:
        order = (place, int(number or 1)), float(seconds or 0)
    except ValueError:
        order = (place, 0), 0.0
    if order[0][1] < 1 or not 0 <= order[1] < 3600:
        raise ConfigError(f"{VARIABLE}: {item!r} is not PLACE[:PASSAGE[:SECONDS]], as in {place}:3")
    return order


def _pass(orders: Mapping[tuple[str, int], float], passages: Counter[str], place: str) -> None:
    passages[place] += 1
    seconds = orders.get((place, passages[place]))
    if seconds is None:
        return
    if place in _LATER:
        asyncio.get_running_loop().call_soon(_strike, seconds)
    else:
        _strike(seconds)


def _strike(seconds: float) -> None:
    if seconds:
        time.sleep(seconds)
    else:
        os.kill(os.getpid(), signal.SIGKILL)
