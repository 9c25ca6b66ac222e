"""Whether the process lives, whether it can take calls, and its metrics."""

from __future__ import annotations

import asyncio

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dispatcher.bodies import Health
from dispatcher.errors import STORE_STATES, StoreFull, StoreUnavailable
from dispatcher.metrics import REGISTRY
from dispatcher.store.queue import Queue
from dispatcher.web.calls import Answer, Call
from dispatcher.web.gate import Gate
from dispatcher.web.openapi import Route
from dispatcher.web.problems import AWAY_SECONDS, Problem

READY_SECONDS = 1.0
"""How long the store may take to answer while this process counts as ready."""


class Checks:
    """`/healthz` is the event loop alone: restarting us does not bring back a store."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.draining = False

    async def healthy(self, _call: Call) -> Answer:
        """That this runs is the answer."""
        return Answer(Health("ok"))

    async def ready(self, _call: Call) -> Answer:
        """Without the main cell nothing can be taken; another one holds up only what is for it.
        Raises Problem 503."""
        if self.draining:
            raise _not_ready("draining", "this process is about to end")
        try:
            store = self._gate.opened.store
        except StoreUnavailable as error:
            raise _not_ready("store_unavailable", error.reason) from None
        names, queues = [*store.cells], [cell.queue for cell in store.cells.values()]
        found = await asyncio.gather(*map(_trouble, queues))
        main, *others = found
        if main is not None and not isinstance(main, StoreFull):
            raise _not_ready("store_unavailable", main.reason)
        states = zip(names, found, strict=True)
        self._gate.answered(*(name for name, error in states if error is None))
        beside = zip(names[1:], others, strict=True)
        away = {name: STORE_STATES[error.state] for name, error in beside if error is not None}
        return Answer(Health("ready", "ok" if main is None else "full", away))

    async def metrics(self, _call: Call) -> Answer:
        """In the text format of Prometheus."""
        return Answer(text=(CONTENT_TYPE_LATEST, generate_latest(REGISTRY)))


def check_routes(checks: Checks) -> list[Route]:
    """Where the checks are found, on the API and on a worker alike."""
    return [
        Route(
            "GET", "/healthz", checks.healthy, "Whether the process lives", Health, tenant=False
        ),
        Route(
            "GET", "/readyz", checks.ready, "Whether it can take calls", Health,
            problems=(503,), tenant=False,
        ),
        Route(
            "GET", "/metrics", checks.metrics, "Metrics in the format of Prometheus", None,
            tenant=False,
        ),
    ]  # fmt: skip


async def _trouble(queue: Queue) -> StoreUnavailable | None:
    """Why a cell takes no writes, if it does not."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            await queue.check_writable()
    except StoreUnavailable as error:
        return error
    except TimeoutError:
        return StoreUnavailable(f"no answer in {READY_SECONDS:g} s")
    return None


def _not_ready(code: str, detail: str) -> Problem:
    return Problem(503, code, detail, headers={"Retry-After": str(AWAY_SECONDS)})
