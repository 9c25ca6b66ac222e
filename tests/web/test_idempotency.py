"""The Idempotency-Key: one batch and one answer, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from hashlib import sha256

import aiohttp
import pytest

from dispatcher.config import Config
from dispatcher.engine.ingest import Ingest, Recipient, Submission
from dispatcher.engine.runtime import create_providers
from dispatcher.messages import Content, new_ulid
from dispatcher.store.opening import Store
from dispatcher.store.submissions import Fixed, KeyTaken, Submissions
from tests.web.conftest import PROVIDER, Serve, bearer, submission

NOW_US = time.time_ns() // 1000 - 3_600_000_000
"""An hour ago."""


async def post(
    http: aiohttp.ClientSession, url: str, body: bytes, key: str, **headers: str
) -> tuple[int, bytes]:
    names = {"Content-Type": "application/json", "Idempotency-Key": key} | headers
    async with http.post(f"{url}/v1/messages", data=body, headers=names) as response:
        return response.status, await response.read()


async def totals(store: Store) -> list[int]:
    """The size of every batch."""
    views = [await store.inspector.batch(batch) for batch in await store.inspector.batches()]
    return [view.total for view in views if view is not None]


async def test_fifty_at_once_are_one_call(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    body = json.dumps(submission("+4915550000001", "bad", "+4915550000003")).encode()
    answers = await asyncio.gather(*(post(http, url, body, "order-7") for _ in range(50)))
    assert {status for status, _ in answers} == {202}
    assert len({answer for _, answer in answers}) == 1
    assert await totals(store) == [2]
    assert await post(http, url, body, "order-7") == answers[0]


async def test_another_body_under_the_key_is_refused(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    first = json.dumps(submission("+4915550000001")).encode()
    other = json.dumps(submission("+4915550000002")).encode()
    assert (await post(http, url, first, "k"))[0] == 202
    status, problem = await post(http, url, other, "k")
    assert (status, json.loads(problem)["code"]) == (409, "key_taken")
    assert await totals(store) == [1]


async def test_of_two_bodies_at_once_one_wins(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    texts = [json.dumps(submission(f"+491555000000{n}")).encode() for n in range(2)]
    answers = await asyncio.gather(*(post(http, url, text, "k") for text in texts * 5))
    assert {status for status, _ in answers} == {202, 409}
    assert await totals(store) == [1]


async def test_keys_of_different_tenants_are_different(
    http: aiohttp.ClientSession, shared_url: str, store: Store
) -> None:
    body = json.dumps(submission() | {"class": "urgent"}).encode()
    answers = [
        await post(http, shared_url, body, "k", **bearer(token))
        for token in ("acme-token", "globex-token", "acme-new-token")
    ]
    assert answers[0] == answers[2] != answers[1]
    assert await totals(store) == [1, 1]


@pytest.mark.parametrize("written", [False, True])
async def test_a_call_cut_off_before_its_answer_is_finished_by_its_repetition(
    http: aiohttp.ClientSession,
    url: str,
    store: Store,
    configure: Callable[[str], Config],
    written: bool,
) -> None:
    """An API killed after it fixed the batch, and one killed after it had written it."""
    body = json.dumps(submission("+4915550000001", "bad", ttl="3650d")).encode()
    batch = new_ulid(NOW_US // 1000)
    calls = Submissions(store.client, store.keys)
    await calls.fix("default", "k", sha256(body).hexdigest(), Fixed(batch, NOW_US, b""))
    if written:
        config = configure(PROVIDER)
        wanted = Submission("sms", "shop", Content("Hi"), ttl=3650 * 86400.0)
        opened = Ingest(config, create_providers(config)).open(wanted, (), batch, NOW_US)
        part = opened.part(0, [Recipient(0, "+4915550000001"), Recipient(1, "bad")])
        await opened.enqueue(store.queue, part)
    answers = [await post(http, url, body, "k") for _ in range(3)]
    assert [status for status, _ in answers] == [202] * 3
    assert len({answer for _, answer in answers}) == 1
    assert json.loads(answers[0][1])["messages"] == [f"{batch}-0", None]
    assert await totals(store) == [1]
    (queue,) = [name async for name in store.client.scan_iter(f"{store.keys.prefix}:queue:*")]
    ((_, entry),) = await store.client.xrange(queue)
    assert int(entry[b"expires"]) == NOW_US + 3650 * 86400 * 1_000_000


@pytest.mark.parametrize("written", [False, True])
async def test_a_call_that_may_be_forgotten_is_not_made_again(
    http: aiohttp.ClientSession,
    serve: Serve,
    store: Store,
    configure: Callable[[str], Config],
    written: bool,
) -> None:
    toml = PROVIDER + '[retention]\nstatus = "10m"\n'
    url, config = await serve(toml), configure(toml)
    body = json.dumps(submission("+4915550000001")).encode()
    batch = new_ulid(NOW_US // 1000)
    calls = Submissions(store.client, store.keys)
    await calls.fix("default", "k", sha256(body).hexdigest(), Fixed(batch, NOW_US, b""))
    if written:
        wanted = Submission("sms", "shop", Content("Hi"))
        opened = Ingest(config, create_providers(config)).open(wanted, (), batch, NOW_US)
        await opened.enqueue(store.queue, opened.part(0, [Recipient(0, "+4915550000001")]))
    status, answer = await post(http, url, body, "k")
    if written:
        assert (status, json.loads(answer)["batch"]) == (202, batch)
    else:
        assert (status, json.loads(answer)["code"]) == (409, "key_forgotten")
    assert await totals(store) == [1] * written


async def test_a_key_taken_while_the_call_was_read_decides(
    http: aiohttp.ClientSession, url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls looked, found nothing and went on: the one that fixed its batch first wins."""

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(Submissions, "recall", nothing)
    body = json.dumps(submission()).encode()
    batch = new_ulid(NOW_US // 1000)
    calls = Submissions(store.client, store.keys)
    await calls.fix("default", "k", sha256(body).hexdigest(), Fixed(batch, NOW_US, b""))
    answers = [await post(http, url, body, "k") for _ in range(2)]
    assert [json.loads(answer)["batch"] for _, answer in answers] == [batch, batch]
    assert await store.inspector.batches() == [batch]


async def test_what_was_refused_leaves_the_key_free(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    bad = json.dumps(submission("1")).encode()
    assert (await post(http, url, bad, "k"))[0] == 422
    assert (await post(http, url, json.dumps(submission()).encode(), "k"))[0] == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "gr\u00fcn"])
async def test_a_key_that_is_none_is_refused(
    http: aiohttp.ClientSession, url: str, store: Store, key: str
) -> None:
    assert (await post(http, url, json.dumps(submission()).encode(), key))[0] == 400
    assert await totals(store) == []


async def test_the_first_call_under_a_key_stays(store: Store) -> None:
    calls = Submissions(store.client, store.keys)
    assert await calls.recall("t", "k", "a") is None
    first = Fixed("B1", 1, b"")
    assert await calls.fix("t", "k", "a", first) == first
    assert await calls.fix("t", "k", "a", Fixed("B2", 2, b"")) == first
    answered = first._replace(answer=b"one")
    assert await calls.fix("t", "k", "a", answered) == answered
    assert await calls.fix("t", "k", "a", first._replace(answer=b"two")) == answered
    assert await calls.recall("t", "k", "a") == answered
    for call in (calls.recall("t", "k", "b"), calls.fix("t", "k", "b", first)):
        with pytest.raises(KeyTaken):
            await call
    assert 86_000 < await store.client.ttl(store.keys.name("submit", "t:k")) <= 86_400


async def test_a_kept_answer_stands_when_the_call_would_now_be_refused(
    http: aiohttp.ClientSession, serve: Serve, store: Store
) -> None:
    body = json.dumps(submission()).encode()
    before = await serve(PROVIDER)
    first = await post(http, before, body, "k")
    after = await serve(PROVIDER + '[[routes]]\nto = "+1*"\nproviders = ["twilio-test"]\n')
    assert (await post(http, after, body, "other"))[0] == 422
    assert await post(http, after, body, "k") == first
    assert await totals(store) == [1]


async def test_a_taken_key_is_named_before_what_else_is_wrong(
    http: aiohttp.ClientSession, url: str
) -> None:
    assert (await post(http, url, json.dumps(submission()).encode(), "k"))[0] == 202
    status, problem = await post(http, url, json.dumps(submission("1")).encode(), "k")
    assert (status, json.loads(problem)["code"]) == (409, "key_taken")
