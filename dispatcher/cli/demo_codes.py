"""The one-time codes of the demo: urgent messages, posted one by one while the campaigns run."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress

from dispatcher.bodies import Receipt
from dispatcher.cli.demo_campaign import CODE_TEXT, SEED, SENDER
from dispatcher.client import Client

REPEATED = 10
"""One post in so many is made twice."""
PATIENCE = 10.0
"""Seconds the API may be away."""


class Codes:
    """Posts a code to every recipient, spread over `seconds`.

    `receipts` has the answers so far, in the order of the recipients. Of `repeated` posts, made
    again under the same key, `differing` had another answer than the first time.
    """

    def __init__(self, recipients: Sequence[str], seconds: float) -> None:
        self.recipients = recipients
        self.receipts: list[Receipt] = []
        self.repeated = 0
        self.differing = 0
        self._interval = seconds / len(recipients)
        self._random = random.Random(SEED)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Post nothing more; `post` ends with the answers under way."""
        self._stop.set()

    async def post(self, url: str, token: str) -> None:
        """Post all of them. Raises ApiError, ApiUnavailable."""
        started = time.monotonic()
        async with Client(url, token, patience=PATIENCE) as client:
            for number, to in enumerate(self.recipients):
                await self._pause(started + number * self._interval - time.monotonic())
                if self._stop.is_set():
                    return
                await self._post(client, number, to)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stop.wait()

    async def _post(self, client: Client, number: int, to: str) -> None:
        code = f"{self._random.randrange(1_000_000):06d}"
        receipt = await _send(client, number, to, code)
        self.receipts.append(receipt)
        if number % REPEATED == 0:
            again = await _send(client, number, to, code)
            self.repeated += 1
            self.differing += again != receipt


async def _send(client: Client, number: int, to: str, code: str) -> Receipt:
    return await client.send(
        channel="sms",
        sender=SENDER,
        text=CODE_TEXT,
        recipients=[{"to": to, "params": {"code": code}}],
        class_="urgent",
        ttl="5m",
        key=f"code-{number}",
    )
