"""The simulator: one listening socket, all fake providers behind it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from typing import Any

from dispatcher.simulator.account import Account
from dispatcher.simulator.connection import Connection, Exchange
from dispatcher.simulator.control import HEALTH, PREFIX, Control
from dispatcher.simulator.faults import Fault, FaultPlan
from dispatcher.simulator.intake import UNREAD, Intake
from dispatcher.simulator.journal import Counts, Journal
from dispatcher.simulator.settings import PROVIDERS, Settings
from dispatcher.simulator.timers import Timers
from dispatcher.simulator.wire import Reply, Request

BACKLOG = 4096


class Simulator:
    """Fake providers over real sockets, inside the event loop that calls `start`.

    `journal` says what came in. A stopped simulator can be started again and remembers.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        rng = random.Random(settings.seed)
        accounts = [Account(account, rng) for account in settings.accounts]
        self.journal = Journal()
        self._plan = FaultPlan(settings.faults, rng)
        self._timers = Timers()
        self._intake = Intake(self.journal, self._plan, self._timers)
        self._control = Control(self.journal, self._plan, {one.label: one for one in accounts})
        self._routes = {one.provider.path: one for one in accounts}
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None

    @property
    def counts(self) -> Counts:
        """Totals since the start or the last `clear`."""
        return self.journal.counts

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, on a free port where `port` is 0, and return the base URL. Raises OSError."""
        if self._server is not None:
            raise RuntimeError("this simulator is already listening")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._handle, self), host, port, backlog=BACKLOG
        )
        taken = self._server.sockets[0].getsockname()[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{taken}"

    async def stop(self) -> None:
        """Stop listening and drop every connection; requests under way get no answer."""
        if self._server is None:
            return
        self._server.close()
        self._timers.clear()
        for connection in list(self._connections):
            connection.abort()
        await self._server.wait_closed()
        await self._empty.wait()
        self._server = None

    def set_faults(self, faults: Iterable[Fault]) -> None:
        """Replace the faults in force."""
        self._plan.order(faults)

    def change_account(self, label: str, **changes: Any) -> None:
        """Change settings of the account `KIND/NAME`, such as `suspended=True`.

        Raises ConfigError when the account or a setting is unknown, or a value out of range.
        """
        self._control.change_account(label, changes)

    def clear(self) -> None:
        """Forget the journal, the counts and every message taken so far."""
        self._control.clear()

    def opened(self, connection: Connection) -> None:
        """A client has connected."""
        self._connections.add(connection)
        self._empty.clear()
        self.counts.connections += 1

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _handle(self, request: Request, exchange: Exchange) -> None:
        account = self._routes.get(request.path)
        if account is not None:
            self._intake.receive(account, request, exchange)
        elif request.path == HEALTH or request.path.startswith(PREFIX):
            self._control.serve(request, exchange)
        else:
            self._refuse_unknown(request, exchange)

    def _refuse_unknown(self, request: Request, exchange: Exchange) -> None:
        """Answer a path that belongs to no account, in the words of the provider it is for."""
        for provider in PROVIDERS:
            if request.path.startswith(provider.prefix):
                refused = provider.unknown(request)
                self.counts.requests += 1
                self._intake.note_refused(provider.kind, UNREAD, refused.code, time.monotonic_ns())
                exchange.reply(provider.refusal(refused))
                return
        exchange.reply(Reply(404, f"nothing at {request.path}\n".encode(), (), "text/plain"))
