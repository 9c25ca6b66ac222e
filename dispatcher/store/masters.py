"""Finds the server that takes commands for a cell: behind Sentinel the master of a name, in a
cluster the node that serves the slot of the cell's hash tag.

redis-py has connections for Sentinel that ask for their server whenever they connect. Here a
cluster is asked in the same way: all keys of a cell are in one slot, so a client of one cell needs
one server at a time, and pipelines, blocking reads, announcements and the clock are those of a
single server. A command that a node did not run because the slot is elsewhere raises MovedError;
the next one goes there.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from redis import exceptions
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection
from redis.crc import key_slot

from dispatcher.address import Node
from dispatcher.store.trouble import of_cell

FAILURES = (exceptions.RedisError, OSError, TimeoutError)
"""All that a client raises for a command that may not have been carried out."""
ASK_SECONDS = 1.0
"""How often the sentinels are asked again, while commands are sent."""
LOGIN_REFUSED = (exceptions.AuthenticationError, exceptions.NoPermissionError)


class Directory(ABC):
    """The nodes that know where the master is; `question` is the command they are asked."""

    def __init__(
        self,
        nodes: Sequence[Node],
        question: Sequence[str],
        connection: Callable[..., Connection],
        options: Mapping[str, Any],
    ) -> None:
        self._nodes = tuple(nodes)
        self._question = question
        self._connection = connection
        self._options = options

    @abstractmethod
    async def discover_master(self, service: str) -> Node:
        """The address of the master now. Raises redis.ConnectionError where no node knows it, and
        the refusal where all of them refuse the login."""

    async def _ask(self, node: Node) -> Any:
        connection = self._connection(host=node[0], port=node[1], **self._options)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command(*self._question)
            return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)


def _unknown(failures: Mapping[Node, BaseException]) -> BaseException:
    """The error for a master that none of these nodes has named."""
    errors = list(failures.values())
    if all(isinstance(error, LOGIN_REFUSED) for error in errors):
        return errors[0]
    reasons = (f"{host}:{port}: {error}" for (host, port), error in failures.items())
    return exceptions.ConnectionError("; ".join(reasons))


class Sentinels(Directory):
    """Sentinels that watch the master called `service`. All of them are asked: one that was cut
    off still names the master of before, and the latest decision holds."""

    def __init__(self, nodes: Sequence[Node], service: str, **words: Any) -> None:
        super().__init__(nodes, ("SENTINEL", "MASTER", service), **words)

    async def discover_master(self, _service: str) -> Node:
        """See Directory."""
        asked = (self._ask(node) for node in self._nodes)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        known = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not known:
            raise _unknown(dict(zip(self._nodes, answers, strict=True)))
        latest = max(known, key=lambda answer: int(answer[b"config-epoch"]))
        return latest[b"ip"].decode(), int(latest[b"port"])


class Cluster(Directory):
    """Nodes of a cluster, of which one serves the slot of `tag`. They are asked in any order, so
    that one which was cut off is not believed for ever, and those that did not answer the last
    time after the others; those they name are asked too."""

    def __init__(self, nodes: Sequence[Node], tag: str, **words: Any) -> None:
        super().__init__(nodes, ("CLUSTER", "SLOTS"), **words)
        self.cell = tag.strip("{}")
        self._slot = key_slot(tag.encode())
        self._named: set[Node] = set()
        self._silent: set[Node] = set()
        self._moved: Node | None = None

    async def discover_master(self, _service: str) -> Node:
        """See Directory. Where the slot has moved to is known without asking."""
        moved, self._moved = self._moved, None
        if moved is not None:
            return moved
        failures: dict[Node, BaseException] = {}
        nodes = list({*self._nodes, *self._named})
        random.shuffle(nodes)
        for node in sorted(nodes, key=self._silent.__contains__):
            try:
                return self._server(await self._ask(node), node)
            except FAILURES as error:
                self._silent.add(node)
                failures[node] = error
        raise _unknown(failures)

    def moved(self, slot: int, node: Node) -> None:
        """A node has said that a slot is served by another one."""
        if slot == self._slot:
            self._moved = node

    def _server(self, answer: Any, node: Node) -> Node:
        """What a node says who serves the slot. Raises redis.ConnectionError where nobody does."""
        ranges = [
            (first, last, [_named(server, node) for server in servers])
            for first, last, *servers in answer
        ]
        self._silent.discard(node)
        self._named = {server for _, _, servers in ranges for server in servers}
        for first, last, servers in ranges:
            if first <= self._slot <= last:
                return servers[0]
        raise exceptions.ConnectionError(f"slot {self._slot} is served by no node")


def _named(server: Sequence[Any], asked: Node) -> Node:
    """One server of an answer. Without an address of its own it is at that of the node asked."""
    host = (server[0] or b"").decode()
    return (host if host not in ("", "?") else asked[0], int(server[1]))


class MasterConnection(SentinelManagedConnection):
    """A connection to the master that the sentinels name, and that says it is one."""

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in, and look whether this is not the master of before a failover."""
        await super().on_connect_check_health(check_health)
        await self.send_command("ROLE", check_health=False)
        if (await self.read_response())[0] != b"master":
            raise exceptions.ConnectionError(f"{self.host}:{self.port} is no longer the master")


class SlotConnection(SentinelManagedConnection):
    """A connection to the node of a cluster that serves the slot. Its errors say which cell it is
    for."""

    async def connect(self) -> None:
        """Connect to the node that serves the slot now."""
        with self._noted():
            await super().connect()  # type: ignore[no-untyped-call]

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        """Write one command or several."""
        with self._noted():
            await super().send_packed_command(*arguments, **options)

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """One reply. After an error that says the slot is elsewhere the next command connects
        anew."""
        try:
            with self._noted():
                return await super().read_response(*arguments, **options)
        except exceptions.MovedError as error:
            directory = self.connection_pool.sentinel_manager
            directory.moved(error.slot_id, (error.host.strip("?") or self.host, error.port))
            self.mark_for_reconnect()  # type: ignore[no-untyped-call]
            raise
        except exceptions.ClusterDownError:
            self.mark_for_reconnect()  # type: ignore[no-untyped-call]
            raise

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            of_cell(error, self.connection_pool.sentinel_manager.cell)
            raise


class TLSMasterConnection(MasterConnection, SSLConnection):
    """The same over TLS."""


class TLSSlotConnection(SlotConnection, SSLConnection):
    """The same over TLS."""


class MasterPool(SentinelConnectionPool):
    """Connections to the master that the sentinels name. One that another has replaced takes
    commands for some ten seconds more, and loses what they wrote: so the sentinels are asked
    again and again while the pool is used."""

    def __init__(self, directory: Directory, **options: Any) -> None:
        super().__init__("", directory, **options)  # type: ignore[no-untyped-call]
        self._asked_at = time.monotonic()
        self._asking: asyncio.Task[None] | None = None

    async def get_connection(self, *_words: Any, **_options: Any) -> Any:
        """A connection to the master as far as it is known."""
        now = time.monotonic()
        if now - self._asked_at >= ASK_SECONDS:
            self._asked_at = now
            self._asking = asyncio.create_task(self._look())
        return await super().get_connection()  # type: ignore[no-untyped-call]

    async def _look(self) -> None:
        """Leave a master that is none any more; sentinels that do not answer change nothing."""
        before = self.master_address
        with suppress(*FAILURES):
            master = await self.get_master_address()  # type: ignore[no-untyped-call]
            for connection in self._in_use_connections if master != before else ():
                connection.mark_for_reconnect()  # type: ignore[no-untyped-call]


def master_pool(
    directory: Directory, tls: bool, options: Mapping[str, Any]
) -> SentinelConnectionPool:
    """Connections to the master that a directory names."""
    kind: type[Connection]
    if isinstance(directory, Cluster):
        kind = TLSSlotConnection if tls else SlotConnection
        pool = SentinelConnectionPool("", directory, connection_class=kind, **options)  # type: ignore[no-untyped-call]
        return pool
    kind = TLSMasterConnection if tls else MasterConnection
    return MasterPool(directory, connection_class=kind, **options)
