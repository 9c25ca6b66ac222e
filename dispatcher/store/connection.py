"""Opens connections to the store.

The client's own retries are off: a command it sends twice without a word runs twice. A lost reply
is StoreUnavailable, and the caller decides. Only what a node of a cluster refused because another
one serves the slot is sent again, to that one: it did not run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import redis.asyncio as aioredis
from redis import exceptions
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from dispatcher.address import CLUSTER, PLAIN, Address, parse_address
from dispatcher.errors import ConfigError, StoreUnavailable
from dispatcher.store.cells_client import CellsClient
from dispatcher.store.masters import (
    FAILURES,
    Cluster,
    Directory,
    Sentinels,
    master_pool,
)
from dispatcher.store.trouble import unavailable

ANSWER_SECONDS = 5.0
"""A command without an answer for this long counts as lost."""
BLOCKED_SECONDS = 30.0
"""The same for reads that wait on the server: longer than any of them waits."""
DIRECTORY_SECONDS = 1.0
"""How long a sentinel or a node may take to say where the master is; then the next one is asked."""
REDIRECTIONS = 5
"""How often a command follows a slot that moves."""

T = TypeVar("T")

Options = Mapping[str, str | None]
"""`username`, `password`, `tls_ca`, `tls_cert`, `tls_key`, `sentinel_username`,
`sentinel_password`."""

_TLS = {"tls_ca": "ssl_ca_certs", "tls_cert": "ssl_certfile", "tls_key": "ssl_keyfile"}


def connect(
    url: str, options: Options, tag: str = "{main}", *, blocking: bool = False
) -> aioredis.Redis:
    """A client for the store at `url`, which connects at its first command.

    In a cluster it is for all cells; `tag` is the hash tag of the one that commands without a key
    are for. `blocking` makes one for blocking reads. Raises ConfigError for a bad url.
    """
    if url.startswith("unix://"):
        return aioredis.Redis.from_url(url, **_rules(blocking), **_login(options))
    try:
        address = parse_address(url)
        if address.kind == PLAIN:
            tls = _tls(options) if address.tls else {}
            given = {**_rules(blocking), **_login(options), **tls}
            return aioredis.Redis.from_url(url, socket_keepalive=True, **given)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"[store] {error}") from None

    def client_of(tag: str) -> aioredis.Redis:
        return aioredis.Redis.from_pool(_pool(address, options, tag, blocking))

    return CellsClient(tag, client_of) if address.kind == CLUSTER else client_of(tag)


def _rules(blocking: bool) -> dict[str, Any]:
    return {
        "socket_connect_timeout": 3.0,
        "socket_timeout": BLOCKED_SECONDS if blocking else ANSWER_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "max_connections": 64,
        # On by default, they keep the pool from seeing that a connection was closed meanwhile.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _login(options: Options, whose: str = "") -> dict[str, Any]:
    named = {word: options.get(f"{whose}{word}") for word in ("username", "password")}
    return {word: value for word, value in named.items() if value is not None}


def _tls(options: Options) -> dict[str, Any]:
    named = {name: options.get(key) for key, name in _TLS.items()}
    return {name: value for name, value in named.items() if value is not None}


def _pool(address: Address, options: Options, tag: str, blocking: bool) -> SentinelConnectionPool:
    """Connections to the master behind Sentinel, or to the node of a cluster that serves `tag`."""
    tls = _tls(options) if address.tls else {}
    in_url = {"username": address.username, "password": address.password}
    login = {word: value for word, value in in_url.items() if value} | _login(options)
    return master_pool(
        _directory(address, tag, login, options, tls),
        address.tls,
        {
            **_rules(blocking), **login, **tls,
            "db": address.db,
            "socket_keepalive": True,
        },
    )  # fmt: skip


def _directory(
    address: Address, tag: str, login: Mapping[str, Any], options: Options, tls: Mapping[str, Any]
) -> Directory:
    asked = {
        "socket_connect_timeout": DIRECTORY_SECONDS,
        "socket_timeout": DIRECTORY_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        **tls,
    }
    kind: type[Connection] = SSLConnection if address.tls else Connection
    if address.kind == CLUSTER:
        return Cluster(address.nodes, tag, connection=kind, options=asked | dict(login))
    own = _login(options, "sentinel_")
    return Sentinels(address.nodes, address.service, connection=kind, options=asked | own)


async def reach(client: aioredis.Redis, patience: float | None) -> None:
    """Wait until the store answers. `patience` in seconds, None waits for ever.

    Raises StoreUnavailable when patience ends, ConfigError where waiting cannot help (a wrong
    password or a server too old).
    """
    started, pause = time.monotonic(), 0.05
    while True:
        try:
            await answering(client.ping)
            return
        except StoreUnavailable as error:
            if error.state == "refused":
                raise ConfigError(f"[store]: {error}") from None
            if patience is not None and time.monotonic() - started + pause > patience:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, 2.0)


async def answering(command: Callable[[], Awaitable[Any]]) -> Any:
    """Run one command; foreign errors come out as StoreUnavailable."""
    try:
        return await redirected(command)
    except FAILURES as error:
        raise unavailable(error) from None


async def redirected(command: Callable[[], Awaitable[T]]) -> T:
    """Run one command; again where another node serves its slot by now, as there it did not run."""
    for _ in range(REDIRECTIONS):
        try:
            return await command()
        except exceptions.MovedError:
            continue
    return await command()
