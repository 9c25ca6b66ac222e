"""Fixtures of the API tests: an API in this process, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from dispatcher.config import Config
from dispatcher.web.app import Api

PROVIDER = """
[providers.twilio-test]
kind = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = "00000000000000000000000000000000"
"""
TENANTS = """
[tenants.acme]
token = ["acme-token", "acme-new-token"]
[tenants.globex]
token = "globex-token"
classes = ["urgent"]
"""
OPERATORS = """
[operators.ann]
token = "ann-token"
"""


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[str]:
    """The base URL of an API in this event loop, ready to take calls."""
    api = Api(config)
    url = await api.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            while (await session.get(f"{url}/readyz")).status != 200:
                pass
        yield url
    finally:
        await api.close()


Serve = Callable[[str], Awaitable[str]]


@pytest.fixture
async def serve(configure: Callable[[str], Config]) -> AsyncIterator[Serve]:
    """Start an API for a configuration; its base URL."""
    async with AsyncExitStack() as stack:

        async def start(toml: str) -> str:
            return await stack.enter_async_context(serving(configure(toml)))

        yield start


@pytest.fixture
async def url(serve: Serve) -> str:
    """An API without tenants."""
    return await serve(PROVIDER)


@pytest.fixture
async def shared_url(serve: Serve) -> str:
    """An API with two tenants and an operator."""
    return await serve(PROVIDER + TENANTS + OPERATORS)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def submission(*recipients: str, **changes: Any) -> dict[str, Any]:
    """A body for `POST /v1/messages`."""
    found = recipients or ("+4915550000001",)
    return {
        "channel": "sms",
        "from": "shop",
        "content": {"text": "Hi"},
        "recipients": [{"to": to} for to in found],
        **changes,
    }
