"""What the janitor asks of the store: keys to look at, and the mending of what is found there.

The keys are found by SCAN, inside a script: there is no list of lanes or queues that could be wrong
itself or cost anything on the way of a message, and a script runs on the server that has the cell.
All raise StoreUnavailable when no answer came; every call may be made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import redis.asyncio as aioredis

from dispatcher.store.keys import Keys
from dispatcher.store.scripts import Script


class Found(NamedTuple):
    """A key: its kind (queue, held, lane, limit or batch) and the rest of its name."""

    kind: str
    rest: str


class Survey(NamedTuple):
    """Keys to look at, what says so afterwards, and whether a round ends with them; or, where
    another worker has the task, the seconds until it may be free."""

    found: Sequence[Found]
    done: str
    last: bool
    busy: float | None = None


class Mended(NamedTuple):
    """What was done to a queue: entries and their messages put back, consumers that left, whether
    it could not be found or its counters were wrong, and whether there is more to put back."""

    entries: int
    messages: int
    consumers: int
    wrong: bool
    more: bool


class Tidying:
    """The janitor's scripts of one cell, typed."""

    def __init__(self, client: aioredis.Redis, keys: Keys) -> None:
        self._keys = keys
        self._survey = Script(client, keys, "survey")
        self._mend = Script(client, keys, "mend")
        self._tidy = Script(client, keys, "tidy")
        self._match = Script(client, keys, "match")

    async def survey(self, worker: str, seconds: float, count: int, done: str = "") -> Survey:
        """Take the task for so many seconds and pass about `count` keys. `done` is that of the last
        survey, when everything it found was looked at."""
        key, task_us = self._keys.name("janitor"), int(seconds * 1e6)
        reply = await self._survey(key, worker, task_us, count, done)
        if reply[0] == b"busy":
            return Survey((), "", False, int(reply[1]) / 1e6)
        _, step, reached, flat = reply
        words = [word.decode() for word in flat]
        found = [Found(*pair) for pair in zip(words[::2], words[1::2], strict=True)]
        return Survey(found, f"{step.decode()} {reached.decode()}", reached == b"0")

    async def mend(self, queue: str, most: int = 200) -> Mended:
        """Bring a queue (lane:class:tenant) in order; up to `most` entries are put back."""
        reply = await self._mend(self._keys.name("queue", queue), queue, most)
        entries, messages, consumers, wrong, more = map(int, reply)
        return Mended(entries, messages, consumers, wrong == 1, more == 1)

    async def tidy(
        self, found: Sequence[Found], unused_seconds: float, status_seconds: float
    ) -> tuple[int, int]:
        """Look at lanes, limits and batches: the counters that were wrong, and the lanes and limits
        that were forgotten because nobody used them for `unused_seconds`."""
        words = [word for key in found for word in key]
        unused_us, status = int(unused_seconds * 1e6), int(status_seconds)
        reply = await self._tidy(self._keys.name("janitor"), unused_us, status, *words)
        return int(reply[0]), int(reply[1])

    async def match_scheduled(self, count: int = 50) -> tuple[int, int]:
        """Scheduled entries without a time are due now, times without an entry are dropped; some
        of them, and how many of both."""
        return await self._matched("scheduled", "items", count)

    async def match_dead(self, count: int = 50) -> tuple[int, int]:
        """The same for dead letters."""
        return await self._matched("dead", "letters", count)

    async def _matched(self, times: str, hash_: str, count: int) -> tuple[int, int]:
        reply = await self._match(self._keys.name(times), hash_, count)
        return int(reply[0]), int(reply[1])
