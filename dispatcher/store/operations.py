"""What operators change by hand: one script call each, in force on the whole backlog at once, and
noted with who did it.

All raise StoreUnavailable when no answer came: the change may or may not have been made, and may be
made again.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import redis.asyncio as aioredis

from dispatcher.store.keys import Keys
from dispatcher.store.scripts import Script

UNTIL_RESET = 0.0
FOREVER = 0.0
"""How long a suspension lasts that somebody has to end."""

_pack = msgspec.msgpack.Encoder().encode


class Action(NamedTuple):
    """What the audit tells of an operator's action; several steps with one `id` are one action.
    `on` is what it concerns, `detail` how."""

    id: str
    who: str
    what: str
    on: str
    detail: str = ""
    reason: str = ""


def packed(action: Action | None) -> bytes:
    """As the scripts take it; empty for what no operator did."""
    return b"" if action is None else _pack(tuple(action))


class Suspended(NamedTuple):
    """The answer to a suspend or resume: the lanes known now that it concerns. `until_us` is the
    end of a suspension, 0 after a resume."""

    until_us: int
    lanes: list[str]


class Operations:
    """The operator's scripts, typed: limits are those of one cell, `keys`; lanes are suspended in
    every cell, as a pattern may hold for lanes of all of them."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._override = Script(client, keys, "override")
        self._suspends = [(own, Script(client, own, "suspend")) for own in keys.all().values()]

    async def set_limit(
        self,
        name: str,
        interval_us: float,
        seconds: float = UNTIL_RESET,
        action: Action | None = None,
    ) -> bool:
        """Let one unit pass every `interval_us` whatever the configuration says, for `seconds` or
        until it is reset. False for a limit that is not in the store."""
        return await self._write(name, f"{interval_us:.6f}", seconds, action)

    async def reset_limit(self, name: str, action: Action | None = None) -> bool:
        """Let the configuration decide again. False for a limit that is not in the store."""
        return await self._write(name, "", UNTIL_RESET, action)

    async def suspend(self, pattern: str, seconds: float, action: Action) -> Suspended:
        """Let nothing of these lanes pass for `seconds` (or FOREVER), for the reason of the action;
        lanes that come later are among them. Once more for the same pattern, the new end holds."""
        lasts = max(1, round(seconds * 1e6)) if seconds else 0
        suspended, _ = await self._change_lanes(pattern, lasts, action)
        return suspended

    async def resume(self, pattern: str, action: Action) -> Suspended | None:
        """Let these lanes go on, whatever suspended them; None where nothing did."""
        resumed, changed = await self._change_lanes(pattern, "", action)
        return resumed if changed else None

    async def _change_lanes(
        self, pattern: str, lasts: int | str, action: Action
    ) -> tuple[Suspended, bool]:
        known, until, changed = list[str](), 0, False
        for keys, suspend in self._suspends:
            reply = await suspend(
                keys.name("suspended"), pattern, lasts, action.reason, packed(action)
            )
            until, changed = max(until, int(reply[0])), changed or reply[2] == 1
            known += (lane.decode() for lane in reply[1])
        return Suspended(until, sorted(known)), changed

    async def _write(self, name: str, interval: str, seconds: float, action: Action | None) -> bool:
        key, lasts = self._keys.name("limit", name), round(seconds * 1e6)
        return int(await self._override(key, name, interval, lasts, packed(action))) == 1
