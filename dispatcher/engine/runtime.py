"""One worker process: wires pumps, settler, heartbeat and bell, and ends them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

from dispatcher import failpoints, providers
from dispatcher.engine.clock import StoreClock
from dispatcher.engine.crossing import Ferry
from dispatcher.engine.gauges import Gauges
from dispatcher.engine.heart import Heart
from dispatcher.engine.ingest import batch_sizes
from dispatcher.engine.intake import Intake
from dispatcher.engine.janitor import Janitor
from dispatcher.engine.maintenance import Changes, listen, watch_loop
from dispatcher.engine.outage import Outage
from dispatcher.engine.pump import Pump
from dispatcher.engine.reclaim import put_back_former
from dispatcher.engine.sending import Sender
from dispatcher.engine.settler import Settler
from dispatcher.errors import StoreUnavailable
from dispatcher.exchange import Provider, Transport
from dispatcher.policy.recipients import Allow
from dispatcher.policy.routing import Limits
from dispatcher.settings import Config
from dispatcher.store.bell import Bell
from dispatcher.store.cells import Cell
from dispatcher.store.control import Control
from dispatcher.store.crossings import Crossings
from dispatcher.store.forgetting import Forgetting
from dispatcher.store.keys import Keys
from dispatcher.store.opening import Store
from dispatcher.store.queue import NewLane, Queue, WorkerLost
from dispatcher.store.screening import Screening
from dispatcher.store.tidying import Tidying
from dispatcher.transport import create as create_transport

log = logging.getLogger(__name__)

FLUSH_SECONDS = 10.0
"""How long a worker that ends waits for its last outcomes to be written."""


def create_providers(config: Config) -> dict[str, Provider]:
    """All providers of a configuration. Raises ConfigError."""
    return {name: providers.create(name, item) for name, item in config.providers.items()}


async def write_limits(
    store: Store,
    limits: Limits,
    known: Iterable[str],
    names: Iterable[str] | None = None,
    *,
    lost: bool = False,
) -> None:
    """Write limits, all or some by name, and those of the lanes of the `known` providers; each cell
    gets its shares. One that does not answer gets them from its workers. `lost` as in
    `Queue.write_limits`. Raises StoreUnavailable where the main cell does not answer."""
    for cell in store.cells.values():
        served = [provider for provider in known if store.at(provider) is cell]
        try:
            await write_limits_in(cell, limits, served, names, lost=lost)
        except StoreUnavailable:
            if cell.name == store.keys.cell:
                raise


async def write_limits_in(
    cell: Cell,
    limits: Limits,
    known: Iterable[str],
    names: Iterable[str] | None = None,
    *,
    lost: bool = False,
) -> None:
    """The same in one cell."""
    now_us = time.time_ns() // 1000
    if names is None:
        lanes = await cell.inspector.lane_names(known)
        configured = (limit.name for limit in limits.definitions(now_us, cell.name))
        met = (name for lane in lanes for name in limits.of(lane))
        wanted = {*configured, *await cell.inspector.limit_names(), *met}
    else:
        wanted = set(names)
        lanes = [name.removeprefix("lane:") for name in wanted if name.startswith("lane:")]
    found = [limits.define(name, now_us, cell.name) for name in wanted]
    new = [NewLane(lane, limits.of(lane)) for lane in lanes]
    await cell.queue.write_limits(filter(None, found), new, lost=lost)


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended. Once is not enough: in Python 3.11 `wait_for`, in which
    the store's client writes, loses a cancellation that comes as the write is done."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=0.5)
        await asyncio.gather(*done, return_exceptions=True)


class Worker:
    """Claims and sends for every provider of its configuration. `member` becomes part of its name
    in the store: what tells the process it lives in from all others."""

    def __init__(self, config: Config, store: Store, member: str = "") -> None:
        self._config = config
        self._store = store
        self._providers = create_providers(config)
        self._outage = Outage()
        parts = (socket.gethostname(), str(os.getpid()), member, secrets.token_hex(4))
        self._name = ".".join(filter(None, parts))

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain. Every cell is served by itself, also one that none
        of the providers is in: one that declares the worker dead, or does not answer, stops nothing
        in the others."""
        served: dict[str, dict[str, Provider]] = {cell: {} for cell in self._store.cells}
        for name, provider in self._providers.items():
            served[self._store.at(name).name][name] = provider
        gauges = asyncio.create_task(Gauges(self._store, self._config.providers).run())
        cells = [asyncio.create_task(self._serve(cell, served[cell], stop)) for cell in served]
        try:
            await asyncio.gather(*cells)
        finally:
            await end_all((*cells, gauges))

    async def _serve(self, cell: str, providers: dict[str, Provider], stop: asyncio.Event) -> None:
        """A worker that was declared dead starts again under a new name."""
        outage = self._outage.of(cell)
        for number in count():
            if stop.is_set():
                return
            name = f"{self._name}-{number}"
            own, common = self._store.cells[cell], self._store.keys
            life = _Life(self._config, own, common, providers, name, outage)
            life.again = number > 0
            try:
                await life.run(stop)
            except WorkerLost as error:
                outage.over()
                log.warning("%s; what it held is with others now, starting anew", error)
                with suppress(StoreUnavailable):  # then others see to it after the lease
                    await put_back_former(own, name)


class _Life:
    """A worker in one cell, from its registration to its end; `again` after one that was declared
    dead. `common` are the keys of what is kept once for all cells."""

    again = False

    def __init__(
        self,
        config: Config,
        store: Cell,
        common: Keys,
        providers: dict[str, Provider],
        name: str,
        outage: Outage,
    ) -> None:
        self._config = config
        self._outage = outage
        self._store = store
        self._common = common
        self._providers = tuple(providers)
        self._queue: Queue = store.queue
        self.name = name
        self._clock = StoreClock()
        self._pumps: dict[str, Pump] = {}
        control = Control(store.blocking, store.keys)
        self._changes = Changes(control, self.name, self._pumps, outage)
        self._heart = Heart(
            self._queue, self.name, config.worker.lease, self._clock, self._changes.numbered, outage
        )
        crossings = Crossings(store.client, store.keys, store.confirming)
        self._ferry = Ferry(crossings, config.retention.status, config.worker.lease / 3, outage)
        self._settler = Settler(self._queue, self.name, config, outage, self._ferry.wake)
        self._limits = Limits(config, batch_sizes(providers))
        self._transports: list[Transport] = []
        self._senders: list[Sender] = []
        for name, item in providers.items():
            self._pumps[name] = self._pump(name, item)

    def _pump(self, name: str, provider: Provider) -> Pump:
        settings = self._config.providers[name]
        transport = create_transport(settings.http, settings.concurrency)
        allow = Allow(self._config.safety.allow)
        sender = Sender(
            name, self._config, provider, transport, self._settler, self._clock, allow, self._limits
        )  # fmt: skip
        intake = Intake(
            self._config,
            provider,
            self._store.inspector,
            self._clock,
            sender.unclear,
            Screening(self._store.client, self._common),
            self._limits.recipient,
        )
        self._transports.append(transport)
        self._senders.append(sender)
        return Pump(
            name,
            self._config.providers[name],
            worker=self.name,
            queue=self._queue,
            clock=self._clock,
            intake=intake,
            sender=sender,
            may_send=self._heart.alive,
            compare_seconds=self._config.worker.lease / 3,
            limits_of=self._limits.of,
            whole=self._limits.whole,
            probe=self._limits.probe(name),
            limits_missing=lambda names: write_limits_in(self._store, self._limits, (), names),
            numbered=self._changes.numbered,
            outage=self._outage,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Raises WorkerLost."""
        if not await self._begin(stop):
            for transport in self._transports:
                await transport.close()
            return
        tidying = Tidying(self._store.client, self._store.keys)
        several = self._store.keys.several
        forgetting = Forgetting(self._store.client, self._store.keys) if several else None
        janitor = Janitor(
            tidying, self._queue, self.name, self._config.retention, forgetting=forgetting
        )
        roles = [
            asyncio.create_task(role, name=name)
            for name, role in (
                ("settle", self._settler.run()),
                ("heartbeat", self._heart.run()),
                ("loop", watch_loop()),
                ("janitor", janitor.run()),
                *([("carry", self._ferry.run())] if several else []),
                *(self._sending() if self._pumps else ()),
            )
        ]
        stopped = asyncio.create_task(stop.wait())
        whose = ", ".join(self._pumps) or f"no provider of the cell {self._store.name}"
        log.info("worker %s serves %s", self.name, whose)
        try:
            await asyncio.wait([*roles, stopped], return_when=asyncio.FIRST_COMPLETED)
            for role in roles:
                if role.done():
                    role.result()
            await self._drain(roles)
        finally:
            await end_all((*roles, stopped))
            self._changes.close()
            for pump in self._pumps.values():
                pump.abandon()
            for transport in self._transports:
                await transport.close()

    def _sending(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """The roles of a cell that some provider is in."""
        bell = Bell(self._store.blocking, self._store.keys, self._pumps)
        yield "bell", listen(bell, self._pumps)
        yield "control", self._changes.run()
        for name, pump in self._pumps.items():
            yield f"pump {name}", pump.run()

    async def _begin(self, stop: asyncio.Event) -> bool:
        """Register, however long the store takes; False when told to stop before that."""
        pause = 0.1
        while not stop.is_set():
            try:
                providers = self._providers
                await write_limits_in(self._store, self._limits, providers, lost=self.again)
                await self._heart.register()
                self._outage.answered("start")
                return True
            except StoreUnavailable as error:
                self._outage.failed("start", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
        return False

    async def _drain(self, roles: list[asyncio.Task[None]]) -> None:
        """Stop claiming, return what is unsent, let what is in flight end, settle, leave."""
        failpoints.passed("before_drain")
        for pump in self._pumps.values():
            pump.stop()
        pumps = [role for role in roles if role.get_name().startswith("pump ")]
        late: set[asyncio.Task[None]] = set()
        if pumps:
            _, late = await asyncio.wait(pumps, timeout=FLUSH_SECONDS)
        await end_all(late)  # what they are given yet goes back unsent: they must not send it
        returned = 0
        for _ in range(2):  # once more for what was throttled meanwhile, or found no connection
            returned += sum(pump.give_back_all() for pump in self._pumps.values())
            await asyncio.gather(*(sender.quiet() for sender in self._senders))
        for transport in self._transports:
            await transport.close()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._settler.flushed()
                if self._store.keys.several:
                    await self._ferry.finish()
                failpoints.passed("before_leave")
                await self._queue.leave(self.name)
        except (TimeoutError, StoreUnavailable) as error:
            reason = str(error) or f"the store has not answered for {FLUSH_SECONDS:g} s"
            log.warning("worker %s: others take over after the lease (%s)", self.name, reason)
        else:
            log.info("worker %s drained, %d messages returned unsent", self.name, returned)
