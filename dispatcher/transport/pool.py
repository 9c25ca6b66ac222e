"""The connections to one origin, and the requests that wait for one of them."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from dispatcher.exchange import Delivery, Done, Result, monotonic
from dispatcher.transport.connection import Connection, call
from dispatcher.transport.request import Origin
from dispatcher.transport.resolver import Addresses
from dispatcher.transport.tls import ClientContext

log = logging.getLogger(__name__)

TICK_SECONDS = 0.05
"""How often time-outs are looked at while anything is under way: they are late by up to this."""
REST_SECONDS = 1.0
"""The same while all connections are idle."""
STALL_SECONDS = 0.5
"""An event loop that stood still this long has yet to read what came meanwhile."""
CONNECTS = 32
"""Connections that may be in the making at a time."""
BACKOFF_SECONDS = (0.05, 2.0)
"""Wait after the first failed connection, and the longest after many."""
KEEP_ALIVE_SECONDS = 30.0
"""How long a connection may be idle, unless the server says less."""
LIFETIME_SECONDS = 300.0
"""Age at which a connection gives way to one at the addresses of that time."""
FRESH_SECONDS = 1.0
"""A connection idle for longer is looked at before it is trusted with a request, and is not trusted
any more when another one gets no answer."""


class _Waiting(NamedTuple):
    wire: bytes
    timeout: float
    expires: float
    write_by: float
    may_write: Callable[[], bool]
    done: Done


class Pool:
    """At most `concurrency` connections to one origin. Requests that find none idle wait in order,
    at most their own time-out."""

    def __init__(
        self,
        origin: Origin,
        concurrency: int,
        connect_seconds: float,
        context: ClientContext | None,
    ) -> None:
        self._origin = origin
        self._concurrency = concurrency
        self._connect_seconds = connect_seconds
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._addresses = Addresses(origin.host, origin.port)
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[_Waiting] = deque()
        self._connects: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._connect_at = 0.0
        self._swept = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._alert = False
        self._empty = asyncio.Event()

    def __repr__(self) -> str:
        idle = len(self._idle)
        return (
            f"<Pool {self._origin}: {len(self._connections) - idle} busy, {idle} idle, "
            f"{len(self._connects)} connecting, {len(self._waiting)} waiting>"
        )

    def send(
        self,
        wire: bytes,
        timeout: float,
        done: Done,
        write_by: float | None,
        may_write: Callable[[], bool],
    ) -> None:
        """Write a request, at once if a connection is idle. `timeout` (seconds) bounds both the
        wait for a connection and, from the write, the answer; see `HttpRequest` for the rest."""
        now = self._time()
        if not self._alert:
            self._watch()
        while self._idle:
            connection = self._idle.pop()
            if _usable(connection, now):
                connection.begin(wire, now + timeout, done)
                return
            connection.transport.abort()
        latest = math.inf if write_by is None else write_by
        self._waiting.append(_Waiting(wire, timeout, now + timeout, latest, may_write, done))
        self._grow(now)

    async def close(self) -> None:
        """Drop every connection; what they carry ends as unknown, what waits as not sent."""
        for task in self._connects:
            task.cancel()
        await asyncio.gather(*self._connects, return_exceptions=True)
        self._refuse(self._waiting, "reset")
        for connection in tuple(self._connections):
            connection.fail("reset")
        if self._connections:
            await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()

    # what connections report

    def opened(self, connection: Connection) -> None:
        """See `Owner.opened`."""
        self._connections.add(connection)
        self._empty.clear()

    def proved(self, connection: Connection) -> None:
        """See `Owner.proved`."""
        if self._context is not None:
            self._context.keep(connection.transport.get_extra_info("ssl_object"))

    def released(self, connection: Connection) -> None:
        """See `Owner.released`."""
        now = self._time()
        if connection.answers and now >= connection.retires:
            connection.transport.abort()
        elif not (self._waiting and self._serve(connection, now)):
            connection.since = now
            connection.until = now + connection.keep_alive
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """See `Owner.lost`."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._connections:
            self._empty.set()
        if self._waiting:
            self._grow(self._time())

    def _serve(self, connection: Connection, now: float) -> bool:
        """Write the first request that may still go out; False when there is none."""
        clock = monotonic()
        while self._waiting:
            first = self._waiting.popleft()
            if first.write_by > clock and first.may_write():
                connection.begin(first.wire, now + first.timeout, first.done)
                return True
            call(first.done, Result(Delivery.NOT_SENT, None, "deadline"))
        return False

    # new connections

    def _grow(self, now: float) -> None:
        """Open as many connections as the waiting requests need and the bounds allow."""
        if now < self._connect_at:
            return
        room = self._concurrency - len(self._connections)
        for _ in range(min(len(self._waiting), room, CONNECTS) - len(self._connects)):
            task = self._loop.create_task(self._connect())
            self._connects.add(task)
            task.add_done_callback(self._connects.discard)

    async def _connect(self) -> None:
        try:
            connection = await self._dial()
            self._check(connection)
        except (OSError, ValueError) as error:
            self._leave()
            self._failed(error)
        else:
            self._leave()
            self._failures = 0
            now = self._time()
            connection.keep_alive = KEEP_ALIVE_SECONDS
            connection.retires = now + LIFETIME_SECONDS * random.uniform(0.8, 1.2)
            self.released(connection)
            self._grow(now)

    def _check(self, connection: Connection) -> None:
        """Raises ConnectionResetError for one that the server has closed or spoken on already."""
        # Over TLS the first bytes are session tickets.
        if connection.transport.is_closing() or not (self._context or connection.silent()):
            self._connections.discard(connection)
            connection.transport.abort()
            raise ConnectionResetError("closed as soon as it was opened")

    def _leave(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connects.discard(task)

    async def _dial(self) -> Connection:
        """A connection to the first address that takes one. Raises OSError."""
        ends = self._time() + self._connect_seconds
        async with asyncio.timeout_at(ends):
            addresses = await self._addresses.get()
        failure: OSError = ConnectionError("the host has no address")
        for tried, address in enumerate(addresses):
            share = (ends - self._time()) / (len(addresses) - tried)
            try:
                async with asyncio.timeout(share):
                    return await self._dial_address(address)
            except OSError as error:
                self._addresses.demote(address)
                failure = error
        raise failure

    async def _dial_address(self, address: str) -> Connection:
        connection = Connection(self)
        try:
            await self._loop.create_connection(
                lambda: connection,
                address,
                self._origin.port,
                ssl=self._context,
                server_hostname=self._origin.host if self._context is not None else None,
            )
        except BaseException:
            # uvloop does not say that one is gone which was cancelled as it opened.
            self._connections.discard(connection)
            raise
        return connection

    def _failed(self, error: Exception) -> None:
        """Back off. Requests that no open connection will take are refused rather than kept."""
        now = self._time()
        if now >= self._connect_at:  # else a failure of the same wave
            first, longest = BACKOFF_SECONDS
            self._connect_at = now + min(longest, first * 2 ** min(self._failures, 10))
            self._failures += 1
            words = str(error) or type(error).__name__
            log.warning("%s: no connection: %s", self._origin, words)
        if not self._connects and not self._connections:
            self._refuse(self._waiting, "connect")

    # time-outs

    def _watch(self) -> None:
        """Look soon, for something is under way."""
        self._alert = True
        self._swept = self._time()
        self._arm(TICK_SECONDS)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        now = self._time()
        stalled = now - self._swept > STALL_SECONDS and self._alert
        self._swept = now
        if not stalled:
            self._expire(now)
            if self._waiting:
                self._grow(now)
        self._alert = len(self._connections) > len(self._idle) or bool(
            self._waiting or self._connects
        )
        if self._alert or self._connections:
            self._arm(TICK_SECONDS if self._alert else REST_SECONDS)
        else:
            self._timer = None

    def _expire(self, now: float) -> None:
        overdue = [item for item in self._connections if item.until <= now]
        if any(item.busy for item in overdue):  # what was idle meanwhile may be as dead
            overdue += [item for item in self._idle if item.since < now - FRESH_SECONDS]
        for connection in overdue:
            connection.expire()
        clock = monotonic()
        late = [item for item in self._waiting if item.write_by <= clock]
        slow = [item for item in self._waiting if item.expires <= now and item.write_by > clock]
        if late or slow:
            self._waiting = deque(
                item for item in self._waiting if item.expires > now and item.write_by > clock
            )
            self._refuse(late, "deadline")
            self._refuse(slow, "timeout")

    def _refuse(self, requests: deque[_Waiting] | list[_Waiting], reason: str) -> None:
        refused = list(requests)
        requests.clear()
        for item in refused:
            call(item.done, Result(Delivery.NOT_SENT, None, reason))


def _usable(connection: Connection, now: float) -> bool:
    if connection.transport.is_closing():
        return False
    return now - connection.since <= FRESH_SECONDS or connection.silent()
