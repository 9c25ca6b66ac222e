"""A campaign as the tests of the engine see it: submit, work, look at what arrived."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from dispatcher.engine.ingest import Ingest, OpenBatch, Recipient, Submission
from dispatcher.engine.runtime import Worker, create_providers
from dispatcher.messages import Content, Record, Status, new_ulid
from dispatcher.settings import Config
from dispatcher.simulator import Simulator
from dispatcher.store.inspector import BatchView
from dispatcher.store.opening import Store
from dispatcher.store.queue import Letter

SID = "AC" + "0" * 32
PART = 2000
PATIENCE = 30.0
"""Seconds after which a test that waits has failed."""


def twilio(url: str, name: str = "twilio", sid: str = SID, **keys: object) -> str:
    """A `[providers.NAME]` table for an account of the simulator at `url`. The message id reaches
    its journal in the status callback."""
    table = {
        "kind": "twilio",
        "base_url": url,
        "account_sid": sid,
        "auth_token": "0" * 32,
        "status_callback": "http://callback.test/",
        **keys,
    }
    return table_of(f"providers.{name}", table)


def webhook(url: str, name: str = "hook", **keys: object) -> str:
    """The same for the simulator's webhook, which knows a message that comes again."""
    return table_of(f"providers.{name}", {"kind": "webhook", "url": f"{url}/webhook/demo", **keys})


def table_of(head: str, table: dict[str, object]) -> str:
    lines = (f"{key} = {msgspec.json.encode(value).decode()}" for key, value in table.items())
    return "\n".join([f"[{head}]", *lines, ""])


def numbers(count: int, prefix: str = "+49151") -> list[str]:
    return [f"{prefix}{number:08}" for number in range(count)]


async def until(condition: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> None:
    """Wait for a condition. Raises TimeoutError."""
    async with asyncio.timeout(patience):
        while not await condition():
            await asyncio.sleep(0.02)


class Campaign:
    """One configuration with its store and its simulated provider."""

    def __init__(self, config: Config, store: Store, simulator: Simulator) -> None:
        self.config, self.store, self.simulator = config, store, simulator
        self.ingest = Ingest(config, create_providers(config))

    def open(self, class_: str = "normal", **words: object) -> OpenBatch:
        """A batch to submit parts of."""
        given = {"sender": "+4915550006", "content": Content(text="Hi"), "class_": class_, **words}
        now_us = time.time_ns() // 1000
        batch = new_ulid(now_us // 1000)
        return self.ingest.open(Submission("sms", **given), (), batch, now_us)  # type: ignore[arg-type]

    async def submit(
        self, recipients: Iterable[str], class_: str = "normal", **words: object
    ) -> str:
        """Accept a batch; its id."""
        opened = self.open(class_, **words)
        listed = [Recipient(index, to) for index, to in enumerate(recipients)]
        for first in range(0, len(listed), PART):
            part = opened.part(first, listed[first : first + PART])
            assert part.rejected == []
            await opened.enqueue(self.store.queue, part)
        return opened.envelope.batch

    @asynccontextmanager
    async def work(self, config: Config | None = None) -> AsyncIterator[asyncio.Task[None]]:
        """A worker in this process, which drains in the end."""
        stop = asyncio.Event()
        task = asyncio.create_task(Worker(config or self.config, self.store).run(stop))
        try:
            yield task
        finally:
            stop.set()
            await task

    async def view(self, batch: str) -> BatchView:
        view = await self.store.inspector.batch(batch)
        assert view is not None
        assert sum(view.counts.values()) == view.total
        return view

    async def counts(self, batch: str) -> dict[str, int]:
        """The statuses that some message of the batch has."""
        return {word: count for word, count in (await self.view(batch)).counts.items() if count}

    async def finished(self, batch: str, patience: float = PATIENCE) -> dict[str, int]:
        """Wait until nothing is queued or scheduled."""

        async def over() -> bool:
            counts = (await self.view(batch)).counts
            return counts["queued"] + counts["scheduled"] == 0

        await until(over, patience)
        return await self.counts(batch)

    async def records(self, batch: str) -> dict[int, tuple[Status, Record]]:
        total = (await self.view(batch)).total
        known = await self.store.inspector.records(batch, range(total))
        return {index: (status, record) for index, (status, _, record) in known.items()}

    async def letters(self) -> dict[str, Letter]:
        found = await self.store.client.hgetall(self.store.keys.name("letters"))
        return {
            message.decode(): msgspec.msgpack.decode(letter, type=Letter)
            for message, letter in found.items()
        }

    async def make_due(self) -> None:
        """Everything scheduled is due now."""
        name = self.store.keys.name("scheduled")
        for item in await self.store.client.zrange(name, 0, -1):
            await self.store.client.zadd(name, {item: 1})
        for provider in self.config.providers:
            await self.store.client.rpush(self.store.keys.name("bell", provider), "1")

    async def is_empty(self) -> bool:
        """Whether no queue, nothing held and no worker is left."""
        names = (self.store.keys.name(kind, "*") for kind in ("queue", "held"))
        left = [key for name in names async for key in self.store.client.scan_iter(name, 1000)]
        return not left and await self.store.inspector.workers() == 0

    def arrived(self) -> Counter[str]:
        """How often the provider accepted each message, by id."""
        entries = self.simulator.journal.entries()
        return Counter(entry.message for entry in entries if entry.event == "accepted")

    def ids(self, batch: str, count: int) -> set[str]:
        return {f"{batch}-{index}" for index in range(count)}

    def assert_each_arrived_once(self, *batches: tuple[str, int]) -> None:
        expected = {name for batch, count in batches for name in self.ids(batch, count)}
        assert self.arrived() == Counter(dict.fromkeys(expected, 1))
