"""What is not about messages: tokens, paths, methods, bounds, broken requests, health, the end."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from dispatcher.bodies import BODY_BYTES
from dispatcher.config import load
from dispatcher.store.embedded import find_server
from dispatcher.store.opening import Store
from dispatcher.web import app, server
from dispatcher.web.app import Api
from tests.web.conftest import PROVIDER, bearer, submission


async def problem_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = await response.json(content_type=None)
    assert problem["status"] == response.status
    assert {"type", "title", "detail", "code"} <= problem.keys()
    return problem


async def raw(url: str, *chunks: bytes, end: bool = False) -> bytes:
    """All that comes back for these bytes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    for chunk in chunks:
        writer.write(chunk)
        await writer.drain()
    if end:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


async def batches(store: Store) -> list[str]:
    return await store.inspector.batches()


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic acme-token", "acme-token",
     "Bearer acme-tokenx", "Bearer \u00fc"],
)  # fmt: skip
async def test_without_a_tenants_token_nothing_is_read_or_stored(
    http: aiohttp.ClientSession, shared_url: str, store: Store, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, path in (("POST", "/v1/messages"), ("GET", "/v1/batches/x")):
        async with http.request(
            method, shared_url + path, headers=headers, json=submission()
        ) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            await problem_of(response)
    assert await batches(store) == []


@pytest.mark.parametrize("token", ["acme-token", "acme-new-token"])
async def test_every_token_of_a_tenant_works(
    http: aiohttp.ClientSession, shared_url: str, token: str
) -> None:
    async with http.post(
        f"{shared_url}/v1/messages", json=submission(), headers=bearer(token)
    ) as response:
        assert response.status == 202


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/v1/messages/", 404, None),
        ("POST", "/v1/batch", 404, None),
        ("GET", "/v1/messages/{id}", 404, None),
        ("GET", "/v1/messages/a%2Fb", 404, None),
        ("GET", "/v1/messages/%ff", 404, None),
        ("GET", "/v1/batches/01JD4Z3C7V9M2N8Q5R6S7T8V9W", 404, None),
        ("DELETE", "/v1/batches/01JD4Z3C7V9M2N8Q5R6S7T8V9W", 404, None),
        ("GET", "/v1/messages/01JD4Z3C7V9M2N8Q5R6S7T8V9W-0", 404, None),
        ("GET", "/v1/messages", 405, "POST"),
        ("PUT", "/v1/batches/01JD4Z3C7V9M2N8Q5R6S7T8V9W", 405, "DELETE, GET, HEAD"),
        ("OPTIONS", "/healthz", 405, "GET, HEAD"),
    ],
)
async def test_unknown_paths_and_methods(
    http: aiohttp.ClientSession, url: str, method: str, path: str, status: int, allow: str | None
) -> None:
    async with http.request(method, url + path) as response:
        assert response.status == status
        assert response.headers.get("Allow") == allow
        await problem_of(response)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/xml"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_other_kinds_of_bodies_are_refused(
    http: aiohttp.ClientSession, url: str, store: Store, headers: dict[str, str]
) -> None:
    body = json.dumps(submission()).encode()
    async with http.post(f"{url}/v1/messages", data=body, headers=headers) as response:
        assert response.status == 415
        await problem_of(response)
    assert await batches(store) == []


def padded(size: int) -> bytes:
    """A good body of exactly this many bytes."""
    body = json.dumps(submission()).encode()
    return body[:-1] + b" " * (size - len(body)) + b"}"


async def test_a_body_may_have_8_mib_and_not_one_byte_more(
    http: aiohttp.ClientSession, url: str, store: Store
) -> None:
    async def chunks() -> Any:
        yield padded(BODY_BYTES + 1)

    headers = {"Content-Type": "application/json"}
    for body in (padded(BODY_BYTES + 1), chunks()):
        async with http.post(f"{url}/v1/messages", data=body, headers=headers) as response:
            assert response.status == 413
            await problem_of(response)
    assert await batches(store) == []
    async with http.post(
        f"{url}/v1/messages", data=padded(BODY_BYTES), headers=headers
    ) as response:
        assert response.status == 202


async def test_half_a_request_stores_nothing(url: str, store: Store) -> None:
    body = json.dumps(submission()).encode()
    head = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    for half in (head, head + length, head + length + body[:-1]):
        assert b" 202 " not in await raw(url, half, end=True)
    assert await batches(store) == []
    whole = await raw(url, head + b"Connection: close\r\n" + length + body)
    assert whole.startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ],
    ids=["no-http", "version", "long-header", "many-headers", "two-lengths"],
)
async def test_what_is_not_http_gets_a_problem(url: str, request_bytes: bytes) -> None:
    answer = await raw(url, request_bytes)
    assert b" 400 Bad Request" in answer[:40]
    assert b"application/problem+json" in answer
    assert b"Traceback" not in answer


async def test_a_body_that_does_not_come_is_not_waited_for(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.2)
    answer = await raw(
        url,
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{",
    )
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert await batches(store) == []


async def test_an_error_of_ours_says_nothing(
    http: aiohttp.ClientSession,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("+4915550000001 is secret")

    monkeypatch.setattr("dispatcher.web.submit._submission", fail)
    async with http.post(f"{url}/v1/messages", json=submission()) as response:
        assert response.status == 500
        problem = await problem_of(response)
    assert "secret" not in json.dumps(problem)
    assert "RuntimeError" in caplog.text
    assert "+4915550000001" not in caplog.text


async def test_health_and_metrics_need_no_token(
    http: aiohttp.ClientSession, shared_url: str
) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        async with http.get(shared_url + path) as response:
            assert response.status == 200, path
            assert await response.read()
    async with http.head(f"{shared_url}/healthz") as response:
        assert response.status == 200


class OwnServer:
    """A store server on a TCP port that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [find_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""],
            cwd=self._folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


async def test_what_was_submitted_is_counted_once(http: aiohttp.ClientSession, url: str) -> None:
    async def counted() -> tuple[float, float]:
        async with http.get(f"{url}/metrics") as response:
            lines = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines())
        submitted = 'dispatcher_submitted_total{channel="sms",tenant="default"}'
        rejected = 'dispatcher_rejected_total{code="invalid_recipient"}'
        return float(lines.get(submitted, 0)), float(lines.get(rejected, 0))

    before = await counted()
    body = submission("+4915550000001", "+4915550000002", "bad")
    for _ in range(2):
        async with http.post(
            f"{url}/v1/messages", json=body, headers={"Idempotency-Key": "k"}
        ) as response:
            assert response.status == 202
    after = await counted()
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)


async def test_the_store_may_come_late_and_go(
    http: aiohttp.ClientSession,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "LATE_SECONDS", 0.0)
    own = OwnServer(tmp_path)
    path = tmp_path / "dispatcher.toml"
    path.write_text(f'[store]\nurl = "redis://127.0.0.1:{own.port}"\n{PROVIDER}')
    api = Api(load(path, {}))
    url = await api.start("127.0.0.1", 0)

    async def refuses() -> None:
        for method, where in (("POST", "/v1/messages"), ("GET", "/readyz")):
            async with http.request(method, url + where, json=submission()) as response:
                assert response.status == 503
                assert int(response.headers["Retry-After"]) > 0
                assert (await problem_of(response))["code"] == "store_unavailable"
        async with http.get(f"{url}/healthz") as response:
            assert response.status == 200

    async def accepts() -> None:
        while (await http.get(f"{url}/readyz")).status != 200:
            await asyncio.sleep(0.02)
        async with http.post(f"{url}/v1/messages", json=submission()) as response:
            assert response.status == 202

    try:
        async with asyncio.timeout(30):
            await refuses()
            told = f"the store (redis://127.0.0.1:{own.port}) does not answer yet; waiting"
            assert caplog.messages.count(told) == 1
            own.start()
            await accepts()
            own.kill()
            await refuses()
            own.start()
            await accepts()
    finally:
        await api.close()
        own.kill()


async def test_it_finishes_calls_before_it_ends(
    http: aiohttp.ClientSession, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dispatcher.toml"
    path.write_text(PROVIDER)
    api = Api(load(path, {}, {"store.data_dir": str(tmp_path / "store")}))
    stop = asyncio.Event()
    url = await api.start("127.0.0.1", 0)
    entered, leave = asyncio.Event(), asyncio.Event()
    original = api._submit._accept

    async def slow(*arguments: Any) -> Any:
        entered.set()
        await leave.wait()
        return await original(*arguments)

    monkeypatch.setattr(api._submit, "_accept", slow)
    running = asyncio.create_task(api.run(stop))
    while (await http.get(f"{url}/readyz")).status != 200:
        await asyncio.sleep(0.02)
    call = asyncio.create_task(http.post(f"{url}/v1/messages", json=submission()))
    await entered.wait()
    stop.set()
    while not api._checks.draining:
        await asyncio.sleep(0)
    leave.set()
    assert (await call).status == 202
    await running
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.get(f"{url}/healthz")
