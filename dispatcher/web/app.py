"""The API process: opens the store, listens, and ends in order."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from dispatcher.bodies import BatchCounts, MessageStory, NewMessages, Receipt
from dispatcher.engine.gauges import Gauges
from dispatcher.engine.ingest import Ingest
from dispatcher.engine.maintenance import watch_loop
from dispatcher.engine.runtime import create_providers, write_limits_in
from dispatcher.errors import StoreUnavailable
from dispatcher.settings import Config
from dispatcher.store.cells import Cell
from dispatcher.store.opening import open_store
from dispatcher.web import server
from dispatcher.web.access import Access
from dispatcher.web.calls import Answer, Call
from dispatcher.web.dead import Dead
from dispatcher.web.gate import Gate
from dispatcher.web.health import Checks, check_routes
from dispatcher.web.lookups import Lookups
from dispatcher.web.openapi import Route, document
from dispatcher.web.operators import Operators
from dispatcher.web.submit import Submit

log = logging.getLogger(__name__)

STORE_PAUSE = 1.0
"""Seconds between two tries to write the limits."""
LATE_SECONDS = 1.0
"""A store that takes longer to answer at the start is worth a line."""


class Api:
    """The HTTP API of a configuration. Raises ConfigError for one it cannot serve."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ingest = Ingest(config, create_providers(config))
        self._gate = Gate()
        self._checks = Checks(self._gate)
        self._submit = Submit(self._ingest, config.tenants, self._gate)
        self._lookups = Lookups(self._gate, config.providers)
        self.routes = self._routes()
        access = Access(config.tenants, config.operators)
        self._document = document(
            self.routes,
            lambda route: access.needs_token(tenant=route.tenant, operator=route.operator),
        )
        self._dispatch = server.Dispatch(self.routes, access, self._gate.failed)
        self._runner: web.ServerRunner | None = None
        self._ended = asyncio.Event()
        self._store_task: asyncio.Task[None] | None = None

    def _routes(self) -> list[Route]:
        known = (404, 429, 503)
        return [
            Route(
                "POST", "/v1/messages", self._submit.post, "Submit messages", Receipt, 202,
                body=NewMessages, headers=("Idempotency-Key",),
                problems=(403, 404, 408, 409, 413, 415, 422, 429, 503),
            ),
            Route(
                "GET", "/v1/messages/{id}", self._lookups.message, "What became of a message",
                MessageStory, problems=known, operator=True,
            ),
            Route(
                "GET", "/v1/batches/{id}", self._lookups.batch, "The counts of a batch",
                BatchCounts, problems=known, operator=True,
            ),
            Route(
                "DELETE", "/v1/batches/{id}", self._lookups.cancel,
                "Cancel what is not sent; the counts follow as workers reach it",
                BatchCounts, problems=known, operator=True,
            ),
            *Operators(self._gate, self._ingest).routes(),
            *Dead(self._gate, self._config).routes(),
            *check_routes(self._checks),
            Route(
                "GET", "/openapi.json", self._describe, "This document", None,
                tenant=False, plain="application/json",
            ),
        ]  # fmt: skip

    async def _describe(self, _call: Call) -> Answer:
        return Answer(self._document)

    async def start(self, host: str, port: int) -> str:
        """Listen, and begin to open the store; the base URL. `port` 0 is any free one. Raises
        DispatcherError when it cannot listen there."""
        runner = self._runner = await server.listen(self._dispatch, host, port)
        self._store_task = asyncio.create_task(self._keep_store(), name="store")
        taken = runner.addresses[0][1]
        return f"http://{f'[{host}]' if ':' in host else host}:{taken}"

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then end. Raises what makes the store unusable for good."""
        assert self._store_task is not None
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopped, self._store_task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            await self.close()

    async def close(self) -> None:
        """Take nothing new, finish what is under way, leave the store."""
        self._checks.draining = True
        if self._runner is not None:
            await self._runner.cleanup()
        self._ended.set()
        task, self._store_task = self._store_task, None
        if task is None:
            return
        if not self._gate.is_open:
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def _keep_store(self) -> None:
        line, where = "the store (%s) does not answer yet; waiting", self._config.store.address
        late = asyncio.get_running_loop().call_later(LATE_SECONDS, log.warning, line, where)
        try:
            await self._use_store(late)
        finally:
            late.cancel()

    async def _use_store(self, late: asyncio.TimerHandle) -> None:
        async with open_store(self._config.store, patience=None) as store:
            late.cancel()
            main, *others = store.cells.values()
            await self._write_limits(main)
            self._gate.open(store)
            log.info("the store answers")
            writing = (self._write_limits(cell) for cell in others)
            roles = Gauges(store, self._config.providers).run(), watch_loop(), *writing
            tasks = [asyncio.create_task(role) for role in roles]
            try:
                await self._ended.wait()
            finally:
                self._gate.close()
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def _write_limits(self, cell: Cell) -> None:
        """However long it takes until the cell answers."""
        outage = self._gate.outage.of(cell.name)
        places = cell.keys.place
        served = [name for name in self._config.providers if places(name) == cell.name]
        while True:
            try:
                await write_limits_in(cell, self._ingest.limits, served)
                return outage.answered("start")
            except StoreUnavailable as error:
                outage.failed("start", error)
            await asyncio.sleep(STORE_PAUSE)
