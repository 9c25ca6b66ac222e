"""Addresses of a host, with the system's resolver replaced: it cannot be made to change."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from dispatcher.exchange import Delivery
from dispatcher.transport.lean import LeanTransport
from dispatcher.transport.resolver import REFRESH_SECONDS, Addresses
from tests.transport.client import Client
from tests.transport.server import Server


class Names:
    """What the resolver says, and how often it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0
        self.later = 0.0

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.addresses:
            raise socket.gaierror("no such host")
        return [(0, 0, 0, "", (address, port)) for address in self.addresses]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names("a", "b")
    loop = asyncio.get_running_loop()
    real = loop.time

    class Loop:
        """The running loop with another resolver and a clock that can be put forward."""

        getaddrinfo = names.getaddrinfo

        def time(self) -> float:
            return real() + names.later

        def __getattr__(self, name: str) -> Any:
            return getattr(loop, name)

    monkeypatch.setattr("dispatcher.transport.resolver.asyncio.get_running_loop", Loop)
    return names


async def test_addresses_are_asked_for_again_after_a_while(names: Names) -> None:
    addresses = Addresses("host", 80)
    assert await asyncio.gather(*(addresses.get() for _ in range(5))) == [["a", "b"]] * 5
    assert names.asked == 1
    names.addresses = ("b", "c")
    names.later = REFRESH_SECONDS + 1
    assert await addresses.get() == ["b", "c"]
    assert names.asked == 2


async def test_an_address_that_failed_is_tried_last(names: Names) -> None:
    addresses = Addresses("host", 80)
    await addresses.get()
    addresses.demote("a")
    assert await addresses.get() == ["b", "a"]
    names.later = REFRESH_SECONDS + 1
    assert await addresses.get() == ["b", "a"]


async def test_known_addresses_outlive_the_resolver(names: Names) -> None:
    addresses = Addresses("host", 80)
    await addresses.get()
    names.addresses = ()
    names.later = REFRESH_SECONDS + 1
    assert await addresses.get() == ["a", "b"]


async def test_a_host_without_addresses(names: Names) -> None:
    names.addresses = ()
    with pytest.raises(OSError, match="no such host"):
        await Addresses("host", 80).get()


async def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.2 refuses on the server's port, as IPv6 does where a server has none."""

    async def known(self: Addresses) -> list[str]:
        return ["::1", "127.0.0.2", "127.0.0.1"]

    server = Server()
    await server.start()
    failed: list[str] = []
    monkeypatch.setattr(Addresses, "get", known)
    monkeypatch.setattr(Addresses, "demote", lambda self, address: failed.append(address))
    client = Client(LeanTransport(1))
    try:
        result = await client.ask(server.url)
    finally:
        await client.transport.close()
        await server.stop()
    assert result.delivery is Delivery.ANSWERED
    assert failed == ["::1", "127.0.0.2"]
