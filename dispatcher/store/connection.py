"""Opens connections to the store.

The client's own retries are off: a command it sends twice without a word runs twice. A lost reply
is StoreUnavailable, and the caller decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import redis.asyncio as aioredis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from dispatcher.errors import ConfigError, StoreUnavailable
from dispatcher.store.trouble import unavailable

ANSWER_SECONDS = 5.0
"""A command without an answer for this long counts as lost."""


def connect(
    url: str, options: Mapping[str, str | None], *, blocking: bool = False
) -> aioredis.Redis:
    """A client for `redis://`, `rediss://` or `unix://`. It connects at its first command.

    `blocking` makes one for blocking reads, which no answer time-out cuts short. `options` are
    `username`, `password`, `tls_ca`, `tls_cert`, `tls_key`. Raises ConfigError for a bad url.
    """
    names = {"tls_ca": "ssl_ca_certs", "tls_cert": "ssl_certfile", "tls_key": "ssl_keyfile"}
    given: dict[str, Any] = {
        names.get(key, key): value for key, value in options.items() if value is not None
    }
    if not url.startswith("unix://"):
        given["socket_keepalive"] = True
    if not url.startswith("rediss://"):
        given = {key: value for key, value in given.items() if not key.startswith("ssl_")}
    try:
        return aioredis.Redis.from_url(
            url,
            socket_connect_timeout=3.0,
            socket_timeout=None if blocking else ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            max_connections=64,
            # On by default, they keep the pool from seeing that a connection was closed meanwhile.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            **given,
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"[store] url: {error}") from None


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
        except StoreUnavailable:
            if patience is not None and time.monotonic() - started + pause > patience:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, 2.0)


async def answering(command: Callable[[], Awaitable[Any]]) -> Any:
    """Run one command; foreign errors come out as StoreUnavailable or ConfigError."""
    try:
        return await command()
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise ConfigError(f"[store]: the server refuses the login: {error}") from None
    except (exceptions.RedisError, OSError, TimeoutError) as error:
        raise unavailable(error) from None
