"""HTTP/1.1 on the bare asyncio protocol: a keep-alive pool per origin, without a task, a future or
a timer per request. It speaks to the provider itself, never through a proxy, follows no redirect
and asks for answers that are not compressed."""

from __future__ import annotations

import asyncio
import logging

from dispatcher.exchange import Delivery, Done, HttpRequest, Result
from dispatcher.transport.connection import call
from dispatcher.transport.pool import Pool
from dispatcher.transport.request import Origin, Target
from dispatcher.transport.tls import ClientContext

log = logging.getLogger(__name__)

TARGETS = 1024
"""URLs whose heads are remembered."""


class LeanTransport:
    """At most `concurrency` connections per origin; `connect_seconds` bounds the making of one,
    TLS included. `ca_file` names the authorities to trust instead of those of the system.

    A request that finds an idle connection is written before `send` returns.
    """

    def __init__(
        self, concurrency: int, *, connect_seconds: float = 10.0, ca_file: str | None = None
    ) -> None:
        self._concurrency = concurrency
        self._connect_seconds = connect_seconds
        self._ca_file = ca_file
        self._context: ClientContext | None = None
        self._targets: dict[str, tuple[Target, Pool]] = {}
        self._pools: dict[Origin, Pool] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<LeanTransport {list(self._pools.values())}>"

    def send(self, request: HttpRequest, done: Done) -> None:
        """See `Transport.send`."""
        try:
            found = self._targets.get(request.url)
            target, pool = found if found is not None else self._find(request.url)
            wire = target.encode(request)
        except (ValueError, TypeError, AttributeError, OSError) as error:
            log.warning("a request cannot be written: %s", error)
            self._refuse(done, "protocol")
            return
        if self._closed:
            self._refuse(done, "reset")
            return
        pool.send(wire, request.timeout, done, request.write_by, request.may_write)

    async def close(self) -> None:
        """See `Transport.close`."""
        self._closed = True
        for pool in self._pools.values():
            await pool.close()

    def _find(self, url: str) -> tuple[Target, Pool]:
        target = Target(url)
        pool = self._pools.get(target.origin)
        if pool is None:
            pool = self._pools[target.origin] = self._open(target.origin)
        if len(self._targets) >= TARGETS:
            self._targets.clear()
        self._targets[url] = (target, pool)
        return target, pool

    def _open(self, origin: Origin) -> Pool:
        if origin.scheme == "https" and self._context is None:
            self._context = ClientContext(self._ca_file)
        context = self._context if origin.scheme == "https" else None
        return Pool(origin, self._concurrency, self._connect_seconds, context)

    def _refuse(self, done: Done, reason: str) -> None:
        result = Result(Delivery.NOT_SENT, None, reason)
        asyncio.get_running_loop().call_soon(call, done, result)
