"""`POST /v1/messages`: what is accepted, what is refused, and what is stored of it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import msgspec
import pytest

from dispatcher.messages import decode_body
from dispatcher.store.opening import Store
from tests.web.conftest import PROVIDER, TENANTS, Serve, bearer, submission


async def stored(store: Store) -> list[str]:
    """Kinds of keys that a call leaves behind, but for the limits of the start and the clock."""
    names = [name.decode() async for name in store.client.scan_iter(f"{store.keys.prefix}:*", 500)]
    kinds = {name.split(":")[1] for name in names}
    return sorted(kinds - {"limit", "limits", "control", "lease", "clock"})


async def bodies(store: Store) -> list[Any]:
    """The envelope and rows of every queued entry."""
    found = []
    async for name in store.client.scan_iter(f"{store.keys.prefix}:queue:*", 500):
        for _, fields in await store.client.xrange(name):
            found.append(decode_body(fields[b"body"]))
    return found


async def post(http: aiohttp.ClientSession, url: str, body: Any, **headers: str) -> tuple[int, Any]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post(f"{url}/v1/messages", json=body, headers=names) as response:
        return response.status, await response.json(content_type=None)


async def test_the_good_ones_are_accepted_and_the_bad_ones_named(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    body = submission(content={"text": "Hi {name}, {n}"})
    body["recipients"] = [
        {"to": "+49 155 5000 0001", "params": {"name": "Ann", "n": 3}, "ref": "order-7"},
        {"to": "12", "params": {"name": "Ben", "n": 1}},
        {"to": "+4915550000003", "params": {"name": "Cy"}},
        {"to": "+4915550000004", "params": {"name": "", "n": True}},
    ]
    status, receipt = await post(http, url, body)
    assert status == 202
    batch = receipt["batch"]
    assert receipt["accepted"] == 2
    assert receipt["messages"] == [f"{batch}-0", None, None, f"{batch}-3"]
    codes = [(item["index"], item["code"]) for item in receipt["rejected"]]
    assert codes == [(1, "invalid_recipient"), (2, "missing_parameter")]
    ((envelope, rows),) = await bodies(store)
    assert (envelope.batch, envelope.tenant, envelope.class_) == (batch, "default", "normal")
    assert [(r.index, r.to, r.values, r.ref) for r in rows] == [
        (0, "+4915550000001", ("Ann", "3"), "order-7"),
        (3, "+4915550000004", ("", "true"), None),
    ]


async def test_ttl_and_send_at_count_from_the_right_moment(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    at = int(time.time()) + 3600
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    status, receipt = await post(http, url, submission(ttl="2h", send_at=later))
    assert status == 202
    view = await store.inspector.batch(receipt["batch"])
    assert view is not None
    assert view.counts["scheduled"] == 1
    (item,) = await store.client.hvals(store.keys.name("items"))
    assert f"{at + 7200}000000".encode() in item


async def test_none_accepted_stores_nothing(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    status, problem = await post(http, url, submission("1", "2"), Idempotency_Key="k")
    assert (status, problem["code"]) == (422, "none_accepted")
    assert [item["index"] for item in problem["rejected"]] == [0, 1]
    assert await stored(store) == []


@pytest.mark.parametrize(
    ("change", "status", "names"),
    [
        ({"channel": "fax"}, 422, "$.channel"),
        ({"class": "slow"}, 422, "$.class"),
        ({"colour": "red"}, 422, "`colour`"),
        ({"content": {"text": "a", "colour": 1}}, 422, "`colour`"),
        ({"content": {}}, 422, "exactly one"),
        ({"content": {"text": "a", "template": {"name": "b"}}}, 422, "exactly one"),
        ({"content": {"text": "{"}}, 422, "character 1"),
        ({"recipients": []}, 422, "$.recipients"),
        ({"recipients": [{"to": 7}]}, 422, "$.recipients[0].to"),
        ({"recipients": [{"to": "+4915550000001", "params": {"a": []}}]}, 422, "params"),
        ({"recipients": [{"to": "+4915550000001"}] * 10_001}, 422, "$.recipients"),
        ({"ttl": "soon"}, 422, "$.ttl"),
        ({"send_at": "2026-11-27T09:00:00"}, 422, "$.send_at"),
        ({"from": ""}, 422, "$.from"),
        ({"first": -1}, 422, "$.first"),
        ({"batch": "x"}, 422, "$.batch"),
        ({"batch": "01JD4Z3C7V9M2N8Q5R6S7T8V9W\n"}, 404, "not known"),
        ({"channel": "email"}, 422, "email"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_name(
    http: aiohttp.ClientSession,
    url: str,
    store: Store,
    change: dict[str, Any],
    status: int,
    names: str,
) -> None:
    found, problem = await post(http, url, submission() | change, Idempotency_Key="k")
    assert found == status
    assert names in problem["detail"]
    assert await stored(store) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"channel": "sms"', 400),
        (b"[" * 100_000, 422),
        (b'{"content":' * 100_000, 422),
        (b'{"recipients":[{"to":"+49","params":{"a":' + b"[" * 100_000, 422),
        (json.dumps(submission()).encode().replace(b"Hi", b"H\xff"), 400),
        (json.dumps(submission()).replace("Hi", "\\ud800").encode(), 400),
        (json.dumps(submission()).encode() + b"}", 400),
        (b"null", 422),
    ],
)
async def test_what_cannot_be_read_is_refused(
    http: aiohttp.ClientSession, url: str, store: Store, body: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    async with http.post(f"{url}/v1/messages", data=body, headers=headers) as response:
        assert response.content_type == "application/problem+json"
        problem = await response.json(content_type=None)
    assert (response.status, problem["status"]) == (status, status)
    assert await stored(store) == []


async def test_messagepack_goes_in_and_out(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    kind = "application/msgpack"
    headers = {"Content-Type": kind, "Accept": kind}
    body = msgspec.msgpack.encode(submission("+4915550000001", "bad"))
    async with http.post(f"{url}/v1/messages", data=body, headers=headers) as response:
        assert (response.status, response.content_type) == (202, kind)
        receipt = msgspec.msgpack.decode(await response.read())
    assert receipt["messages"] == [f"{receipt['batch']}-0", None]
    headers = {"Accept": kind}
    async with http.get(f"{url}/v1/batches/{receipt['batch']}", headers=headers) as response:
        counts = msgspec.msgpack.decode(await response.read())
    assert (counts["total"], counts["queued"]) == (1, 1)


async def test_damaged_messagepack_is_refused(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    headers = {"Content-Type": "application/msgpack"}
    good = msgspec.msgpack.encode(submission())
    for body in (good[:-1], good.replace(b"Hi", b"H\xff"), b"\x91" * 100_000):
        async with http.post(f"{url}/v1/messages", data=body, headers=headers) as response:
            assert response.status in (400, 422)
            assert response.content_type == "application/problem+json"
    assert await stored(store) == []


async def test_a_full_store_asks_for_patience(
    http: aiohttp.ClientSession, serve: Serve, store: Store
) -> None:
    url = await serve("max_queued = 2\n" + PROVIDER)
    assert (await post(http, url, submission("+4915550000001", "+4915550000002")))[0] == 202
    async with http.post(f"{url}/v1/messages", json=submission()) as response:
        problem = await response.json(content_type=None)
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
    assert problem["code"] == "store_full"


async def test_a_tenant_at_its_bound_is_asked_for_patience(
    http: aiohttp.ClientSession, serve: Serve, store: Store
) -> None:
    url = await serve(PROVIDER + TENANTS.replace("classes", "max_queued = 2\nclasses"))
    body = submission("+4915550000001", "+4915550000002") | {"class": "urgent"}
    globex = bearer("globex-token")
    assert (await post(http, url, body, **globex))[0] == 202
    async with http.post(f"{url}/v1/messages", json=body, headers=globex) as response:
        problem = await response.json(content_type=None)
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
    assert problem["code"] == "tenant_full"
    assert problem["detail"] == "[tenants.globex] max_queued = 2 reached: 2 queued"
    assert (await post(http, url, body, **bearer("acme-token")))[0] == 202


async def test_a_tenant_submits_its_classes_only(
    http: aiohttp.ClientSession, shared_url: str, store: Store
) -> None:
    token = bearer("globex-token")
    status, problem = await post(http, shared_url, submission(), **token)
    assert (status, problem["code"]) == (403, "class_not_allowed")
    assert await stored(store) == []
    body = submission() | {"class": "urgent"}
    assert (await post(http, shared_url, body, **token))[0] == 202


async def test_a_batch_grows_by_parts(http: aiohttp.ClientSession, url: str, store: Store) -> None:
    _, first = await post(http, url, submission("+4915550000001", "bad"))
    more = submission("+4915550000003") | {"batch": first["batch"], "first": 2}
    answers = await asyncio.gather(*(post(http, url, more) for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][1]["messages"] == [f"{first['batch']}-2"]
    view = await store.inspector.batch(first["batch"])
    assert view is not None
    assert view.total == 2


async def test_a_part_cannot_change(http: aiohttp.ClientSession, url: str, store: Store) -> None:
    _, first = await post(http, url, submission())
    same = {"batch": first["batch"], "first": 0}
    status, problem = await post(http, url, submission("+4915550000009") | same)
    assert (status, problem["code"]) == (409, "part_differs")
    other = submission("+4915550000002", content={"text": "Bye"}) | same | {"first": 1}
    status, problem = await post(http, url, other)
    assert (status, problem["code"]) == (409, "batch_differs")
    view = await store.inspector.batch(first["batch"])
    assert view is not None
    assert view.total == 1


async def test_only_its_owner_appends(
    http: aiohttp.ClientSession, shared_url: str, store: Store
) -> None:
    body = submission() | {"class": "urgent"}
    _, first = await post(http, shared_url, body, **bearer("acme-token"))
    more = body | {"batch": first["batch"], "first": 1}
    assert (await post(http, shared_url, more, **bearer("globex-token")))[0] == 404
    assert (await post(http, shared_url, more, **bearer("acme-new-token")))[0] == 202
