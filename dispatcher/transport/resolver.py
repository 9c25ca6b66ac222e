"""The addresses of one host, looked up again from time to time."""

from __future__ import annotations

import asyncio
import logging
import socket

log = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0
"""Age at which addresses are looked up again for the next connection."""


class Addresses:
    """IPv4 and IPv6 addresses of a host, best first: those that failed last are tried last."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._known: list[str] = []
        self._expires = 0.0
        self._asking = asyncio.Lock()

    async def get(self) -> list[str]:
        """All of them, at most `REFRESH_SECONDS` old unless the resolver fails. Raises OSError."""
        async with self._asking:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._expires:
                await self._refresh()
                self._expires = loop.time() + REFRESH_SECONDS
        return list(self._known)

    def demote(self, address: str) -> None:
        """It could not be reached: try it after the others from now on."""
        if address in self._known:
            self._known.remove(address)
            self._known.append(address)

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            if not self._known:
                raise
            log.warning("%s: %s; using the addresses known before", self._host, error)
            return
        fresh = list(dict.fromkeys(str(item[4][0]) for item in found))
        # What is known already keeps its place, so that a dead address stays behind.
        kept = [address for address in self._known if address in fresh]
        self._known = kept + [address for address in fresh if address not in kept]
