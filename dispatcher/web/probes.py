"""Health, readiness and metrics of a worker process, on a port of their own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dispatcher.errors import DispatcherError, StoreUnavailable
from dispatcher.store.opening import Store
from dispatcher.web.access import Access
from dispatcher.web.gate import Gate
from dispatcher.web.health import Checks, check_routes

log = logging.getLogger(__name__)

ALL_ADDRESSES = "0.0.0.0"
"""Probes and scrapers come from outside of a container. Nothing there is secret."""


class Probes:
    """What the checks of one worker process see."""

    def __init__(self) -> None:
        self._gate = Gate()
        self.checks = Checks(self._gate)

    @property
    def failed(self) -> Callable[[StoreUnavailable], None]:
        """Is told that the store did not answer."""
        return self._gate.failed

    def opened(self, store: Store | None) -> None:
        """The store answers; None: it is left."""
        if store is None:
            self._gate.close()
        else:
            self._gate.open(store)


@asynccontextmanager
async def serve_probes(port: int) -> AsyncIterator[Probes]:
    """Answer on `port` while the context is open; 0 is no port. A port that is taken is a warning:
    it must not keep messages from being sent."""
    probes, runner = Probes(), None
    if port:
        from dispatcher.web import server  # aiohttp takes its time to load

        try:
            dispatch = server.Dispatch(check_routes(probes.checks), Access({}), probes.failed)
            runner = await server.listen(dispatch, ALL_ADDRESSES, port)
        except DispatcherError as error:
            log.warning("no metrics and probes: %s ([worker] port)", error)
    try:
        yield probes
    finally:
        if runner is not None:
            await runner.cleanup()
