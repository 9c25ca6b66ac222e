"""Whether the process lives, whether it can take calls, and its metrics."""

from __future__ import annotations

import asyncio

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dispatcher.bodies import Health
from dispatcher.errors import STORE_STATES, StoreFull, StoreUnavailable
from dispatcher.metrics import REGISTRY
from dispatcher.web.calls import Answer, Call
from dispatcher.web.gate import CALLS, Gate
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
        """Raises Problem 503."""
        if self.draining:
            raise _not_ready("draining", "this process is about to end")
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._gate.opened.store.queue.check_writable()
        except StoreFull:
            return Answer(Health("ready", "full"))
        except StoreUnavailable as error:
            raise _not_ready("store_unavailable", STORE_STATES[error.state]) from None
        except TimeoutError:
            reason = f"{STORE_STATES['unreachable']}: no answer in {READY_SECONDS:g} s"
            raise _not_ready("store_unavailable", reason) from None
        self._gate.outage.answered(CALLS)
        return Answer(Health("ready"))

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


def _not_ready(code: str, detail: str) -> Problem:
    return Problem(503, code, detail, headers={"Retry-After": str(AWAY_SECONDS)})
