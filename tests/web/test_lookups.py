"""Messages and batches as their tenant sees them, cancelling, and the way to the provider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import Any

import aiohttp
import msgspec
import pytest

from dispatcher.bodies import BatchCounts, MessageStory
from dispatcher.config import Config
from dispatcher.engine.runtime import Worker
from dispatcher.simulator import Simulator
from dispatcher.store.opening import Store
from tests.web.conftest import PROVIDER, Serve, bearer, submission

UNKNOWN = "01JD4Z3C7V9M2N8Q5R6S7T8V9W"


@asynccontextmanager
async def working(config: Config, store: Store) -> AsyncIterator[None]:
    """A worker in this event loop."""
    stop = asyncio.Event()
    task = asyncio.create_task(Worker(config, store).run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def submitted(
    http: aiohttp.ClientSession, url: str, body: Any, token: str = ""
) -> dict[str, Any]:
    headers = bearer(token) if token else {}
    async with http.post(f"{url}/v1/messages", json=body, headers=headers) as response:
        assert response.status == 202
        receipt: dict[str, Any] = await response.json()
        return receipt


async def fetched(http: aiohttp.ClientSession, url: str, method: str = "GET") -> Any:
    async with http.request(method, url) as response:
        assert response.status == 200
        return await response.json()


async def settled(http: aiohttp.ClientSession, url: str, batch: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            counts: dict[str, Any] = await fetched(http, f"{url}/v1/batches/{batch}")
            if counts["queued"] + counts["scheduled"] == 0:
                return counts
            await asyncio.sleep(0.02)


def exactly(found: Any, type_: type[Any]) -> None:
    """What is answered has the fields that are documented, no more and no fewer."""
    struct = msgspec.convert(found, type_)
    assert found.keys() <= set(type_.__struct_fields__)
    assert msgspec.to_builtins(struct).keys() >= found.keys()


async def test_from_the_call_to_the_provider(
    http: aiohttp.ClientSession,
    serve: Serve,
    configure: Callable[[str], Config],
    store: Store,
    simulator: Simulator,
    simulator_url: str,
) -> None:
    toml = PROVIDER + f'base_url = "{simulator_url}"\n'
    url = await serve(toml)
    body = submission(content={"text": "Hi {name}"})
    body["recipients"] = [
        {"to": "+4915550000001", "params": {"name": "Ann"}, "ref": "order-7"},
        {"to": "nobody"},
    ]
    receipt = await submitted(http, url, body)
    waiting = await fetched(http, f"{url}/v1/messages/{receipt['messages'][0]}")
    assert waiting["status"] == "queued"
    exactly(waiting, MessageStory)
    async with working(configure(toml), store):
        counts = await settled(http, url, receipt["batch"])
    assert (counts["total"], counts["sent"], counts["tenant"]) == (1, 1, "default")
    exactly(counts, BatchCounts)
    story = await fetched(http, f"{url}/v1/messages/{receipt['messages'][0]}")
    exactly(story, MessageStory)
    (entry,) = simulator.journal.entries()
    assert entry.event == "accepted"
    assert entry.to == "+4915550000001"
    assert sha1(b"Hi Ann").hexdigest().startswith(entry.text)
    assert story["status"] == "sent"
    assert (story["ref"], story["to"], story["provider"]) == (
        "order-7", "+4915550000001", "twilio-test",
    )  # fmt: skip
    assert story["provider_id"] == entry.id
    assert story["error"] is None


async def test_what_a_message_waits_for_before_its_first_attempt(
    http: aiohttp.ClientSession, serve: Serve, store: Store
) -> None:
    url = await serve(PROVIDER + 'rate = "10/s"\n')

    async def waiting_for(**changes: Any) -> Any:
        receipt = await submitted(http, url, submission(**changes))
        return (await fetched(http, f"{url}/v1/messages/{receipt['messages'][0]}"))["waiting_for"]

    assert await waiting_for() is None
    now = await store.inspector.now_us()
    limit = {"interval": "100000.000000", "burst": 1, "tat": now + 60_000_000}
    await store.client.hset(store.keys.name("limit", "provider:twilio-test"), mapping=limit)
    assert await waiting_for() == "limit provider:twilio-test"
    assert await waiting_for(send_at="2100-01-01T00:00:00Z") == (
        "scheduled until 2100-01-01T00:00:00+00:00"
    )


async def test_a_tenant_sees_its_own_only(http: aiohttp.ClientSession, shared_url: str) -> None:
    receipt = await submitted(http, shared_url, submission(), "acme-token")
    batch, message = receipt["batch"], receipt["messages"][0]
    for token, status in (("acme-new-token", 200), ("globex-token", 404)):
        for method, path in (
            ("GET", f"/v1/messages/{message}"),
            ("GET", f"/v1/batches/{batch}"),
            ("DELETE", f"/v1/batches/{batch}"),
        ):
            async with http.request(method, shared_url + path, headers=bearer(token)) as response:
                assert response.status == status, (token, method, path)
                found = await response.text()
                assert ("acme" in found) == (status == 200)
    async with http.get(f"{shared_url}/v1/batches/{UNKNOWN}", headers=bearer("globex-token")) as r:
        unknown = (await r.text()).replace(UNKNOWN, "ID")
    async with http.get(f"{shared_url}/v1/batches/{batch}", headers=bearer("globex-token")) as r:
        assert (await r.text()).replace(batch, "ID") == unknown


async def test_a_refused_cancel_cancels_nothing(
    http: aiohttp.ClientSession, shared_url: str, store: Store
) -> None:
    receipt = await submitted(http, shared_url, submission(), "acme-token")
    path = f"{shared_url}/v1/batches/{receipt['batch']}"
    async with http.delete(path, headers=bearer("globex-token")) as response:
        assert response.status == 404
    name = store.keys.name("batch", receipt["batch"])
    assert not await store.client.hexists(name, "cancel")


async def test_a_cancelled_batch_is_not_sent(
    http: aiohttp.ClientSession,
    serve: Serve,
    configure: Callable[[str], Config],
    store: Store,
    simulator: Simulator,
    simulator_url: str,
) -> None:
    """Neither what is queued nor what is scheduled for tomorrow; another batch is not concerned."""
    toml = PROVIDER + f'base_url = "{simulator_url}"\n'
    url = await serve(toml)
    numbers = [f"+49155500{n:05d}" for n in range(150)]
    tomorrow = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
    now = await submitted(http, url, submission(*numbers))
    later = [await submitted(http, url, submission(*numbers, send_at=tomorrow)) for _ in range(2)]
    kept = await submitted(http, url, submission("+4915550999999"))
    for receipt in (now, later[0], now):
        counts = await fetched(http, f"{url}/v1/batches/{receipt['batch']}", "DELETE")
        assert counts["total"] == 150
    async with working(configure(toml), store):
        for receipt in (now, later[0]):
            assert (await settled(http, url, receipt["batch"]))["cancelled"] == 150
        assert (await settled(http, url, kept["batch"]))["sent"] == 1
    other = await fetched(http, f"{url}/v1/batches/{later[1]['batch']}")
    assert (other["scheduled"], other["cancelled"]) == (150, 0)
    assert simulator.counts.accepted == 1


async def test_every_scheduled_entry_of_a_batch_is_found(
    http: aiohttp.ClientSession, url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the step: entries that are moved and those that stay are told apart."""
    monkeypatch.setattr("dispatcher.store.submissions.LOOKED_AT", 3)
    tomorrow = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
    receipts = []
    for n in range(2):
        receipt = await submitted(http, url, submission(f"+491555000{n:04d}", send_at=tomorrow))
        receipts.append(receipt["batch"])
    for n in range(1, 12):
        more = {"batch": receipts[n % 2], "first": n, "send_at": tomorrow}
        await submitted(http, url, submission(f"+491555001{n:04d}", **more))
    await fetched(http, f"{url}/v1/batches/{receipts[0]}", "DELETE")
    due = time.time() * 1e6 + 3600e6
    waiting = await store.client.zcount(store.keys.name("scheduled"), due, "inf")
    view = await store.inspector.batch(receipts[1])
    assert view is not None
    assert waiting == view.total
