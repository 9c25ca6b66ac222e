"""Finds what fell out of order in the store, and forgets what has been kept long enough.

Nothing of this happens while every script runs to its end. It is for what people and servers do:
keys deleted by hand, a group destroyed, a failover that lost the last writes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress

from dispatcher import metrics
from dispatcher.engine.clock import monotonic
from dispatcher.errors import StoreUnavailable
from dispatcher.settings import RetentionConfig
from dispatcher.store.forgetting import Forgetting
from dispatcher.store.queue import Queue
from dispatcher.store.tidying import Found, Tidying

log = logging.getLogger(__name__)

REST_SECONDS = 60.0
"""Between two rounds."""
TASK_SECONDS = 150.0
"""How long a worker has the task after its last step."""
STEP_SECONDS = 0.1
"""Least time between two steps of a round."""
STEP_SHARE = 0.1
"""Most of the time that the steps of a round may take."""
STEP_KEYS = 1000
TIDY_KEYS = 10
"""Keys that one call looks at; of a lane it may read some megabytes of entries."""
UNUSED_SECONDS = 30 * 86_400.0
"""A lane or limit that nobody used for so long is forgotten."""


class Janitor:
    """One worker at a time has the task; the others ask again when it may be free. `forgetting` is
    for a store of several cells."""

    def __init__(
        self,
        tidying: Tidying,
        queue: Queue,
        worker: str,
        retention: RetentionConfig,
        unused: float = UNUSED_SECONDS,
        forgetting: Forgetting | None = None,
    ) -> None:
        self._tidying = tidying
        self._forgetting = forgetting
        self._queue = queue
        self._worker = worker
        self._retention = retention
        self._unused = unused
        self._done = ""

    async def run(self) -> None:
        """Go from step to step until cancelled."""
        pause = REST_SECONDS * random.random()
        while True:
            await asyncio.sleep(pause)
            try:
                pause = await self.step()
            except StoreUnavailable:  # the other roles say so
                pause = REST_SECONDS * (0.5 + random.random())

    async def round(self) -> bool:
        """Look at all that a round has left; False when another worker has the task. Raises
        StoreUnavailable."""
        while await self.step() < REST_SECONDS:
            pass
        return self._done != ""

    async def step(self) -> float:
        """Look at some keys; the seconds until the next step. Raises StoreUnavailable."""
        began = monotonic()
        done, self._done = self._done, ""
        survey = await self._tidying.survey(self._worker, TASK_SECONDS, STEP_KEYS, done)
        if survey.busy is not None:
            return max(REST_SECONDS, survey.busy * (1 + random.random()))
        await self._look_at(survey.found)
        self._done = survey.done
        if survey.last:
            await self._forget_letters()
            return REST_SECONDS
        return max(STEP_SECONDS, (monotonic() - began) / STEP_SHARE)

    async def _look_at(self, found: Sequence[Found]) -> None:
        for kind, rest in found:
            if kind == "queue":
                await self._mend(rest)
            elif kind == "held":
                await self._release(rest)
        others = [key for key in found if key.kind not in ("queue", "held")]
        for start in range(0, len(others), TIDY_KEYS):
            some = others[start : start + TIDY_KEYS]
            wrong, forgotten = await self._tidying.tidy(some, self._unused, self._retention.status)
            if wrong:
                log.warning("janitor: %d counters of lanes and batches put right", wrong)
            if forgotten:
                log.info("janitor: %d lanes and limits forgotten", forgotten)
        if self._forgetting is not None:
            batches = [key.rest for key in found if key.kind == "batch"]
            with suppress(StoreUnavailable):  # another cell is away: they stay for now
                await self._forgetting.forget(batches, self._retention.status)
        self._tell("scheduled entries", *await self._tidying.match_scheduled())
        self._tell("dead letters", *await self._tidying.match_dead())

    async def _mend(self, queue: str) -> None:
        more = True
        while more:
            _, messages, _, wrong, more = await self._tidying.mend(queue)
            if messages:
                metrics.RECLAIMED.inc(messages)
                log.warning("janitor: %s: %d messages of nobody put back", queue, messages)
            if wrong:
                log.warning("janitor: %s could not be found or was miscounted", queue)

    async def _release(self, worker: str) -> None:
        """What somebody holds who is not registered."""
        moved = await self._queue.reclaim_dead(worker, "", 0)
        if moved:
            metrics.RECLAIMED.inc(moved)
            log.warning("janitor: %d messages of worker %s put back", moved, worker)

    async def _forget_letters(self) -> None:
        while await self._queue.sweep(self._retention.dead):
            pass

    def _tell(self, what: str, restored: int, dropped: int) -> None:
        if restored or dropped:
            log.warning(
                "janitor: %s: %d found again, %d empty ones dropped", what, restored, dropped
            )
