"""What all rivals share: the message, and the aiohttp session that posts it as Twilio wants it.

Runs in the environment of a rival, which has aiohttp and uvloop but nothing of the dispatcher.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import islice
from typing import Any, NamedTuple

import aiohttp
import uvloop
from yarl import URL

ACCOUNT = "AC00000000000000000000000000000000"
SENDER = "+15005550006"


class Order(NamedTuple):
    """What one process of a rival is to do. `store` and `sink` are URLs."""

    store: str
    sink: str
    messages: int


Step = Callable[[Order], Coroutine[Any, Any, None]]


def run(enqueue: Step, work: Step) -> None:
    """Read the command line and take the step it names, on uvloop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=("enqueue", "work"))
    parser.add_argument("store")
    parser.add_argument("sink")
    parser.add_argument("messages", type=int)
    given = parser.parse_args()
    step = enqueue if given.step == "enqueue" else work
    uvloop.run(step(Order(given.store, given.sink, given.messages)))


def messages(count: int) -> list[tuple[str, str]]:
    """Recipient and text of each message."""
    return [
        (f"+49151{index:08d}", f"Hi Anna, your code is {index:06d}. Reply STOP")
        for index in range(count)
    ]


async def enqueue_each(enqueue: Callable[[str, str], Awaitable[object]], count: int) -> None:
    """Enqueue all messages with a call each, 100 calls at a time."""
    left = iter(messages(count))
    while some := list(islice(left, 100)):
        await asyncio.gather(*(enqueue(to, text) for to, text in some))


class Session:
    """Keep-alive connections to the sink, at most `connections`. Made inside a running loop."""

    def __init__(self, sink: str, connections: int) -> None:
        self._url = URL(f"{sink}/2010-04-01/Accounts/{ACCOUNT}/Messages.json")
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            auth=aiohttp.BasicAuth(ACCOUNT, "token"),
            headers={"Accept": "application/json"},
        )

    async def send(self, to: str, text: str) -> str:
        """Post one message and return the provider's id of it."""
        form = {"To": to, "From": SENDER, "Body": text}
        async with self._client.post(self._url, data=form) as response:
            response.raise_for_status()
            answer = await response.json()
        return str(answer["sid"])

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
