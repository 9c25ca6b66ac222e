"""The client of the HTTP API.

async with Client("http://127.0.0.1:8080") as client:
    receipt = await client.send(
        channel="sms", sender="shop", text="Hi {name}",
        recipients=[{"to": "+4915550001", "params": {"name": "Ann"}}],
    )
    batch = await client.batch(receipt.batch)
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from dispatcher.bodies import (
    JSON,
    BatchCounts,
    MessageStory,
    NewContent,
    NewMessages,
    NewRecipient,
    ProblemBody,
    Receipt,
    RejectedRecipient,
)
from dispatcher.errors import DispatcherError
from dispatcher.messages import new_ulid
from dispatcher.toml import masked

ANSWER_SECONDS = 60.0
PATIENCE = 60.0
"""How long a call is repeated while the API is away, busy or full."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
PASSING = frozenset({429, 502, 503, 504})
"""Statuses after which the same call may succeed: ours, and those of a proxy in between."""

T = TypeVar("T")
AnyRecipient: TypeAlias = str | Mapping[str, Any] | NewRecipient


class ApiError(DispatcherError):
    """The API refused a call. `status` is that of HTTP, `code` one word for programs; `rejected`
    lists the recipients where none was accepted."""

    def __init__(self, problem: ProblemBody) -> None:
        super().__init__(f"{problem.status} {problem.code}: {problem.detail}")
        self.status = problem.status
        self.code = problem.code
        self.detail = problem.detail
        self.rejected: Sequence[RejectedRecipient] = problem.rejected


class ApiUnavailable(DispatcherError):
    """No usable answer for as long as the client is patient. Whether a submit was accepted is
    unknown: sending it again with the same key is safe."""

    retryable = True


class _Reply(NamedTuple):
    status: int
    retry_after: float | None
    body: bytes


class Client:
    """Talks to one API as one tenant.

    `timeout` is the seconds one request may take, `patience` how long a call is repeated after
    connection errors, 429 and 503. Repeating is safe: every submit carries an Idempotency-Key.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = ANSWER_SECONDS,
        patience: float = PATIENCE,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": JSON}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        *,
        channel: str,
        sender: str,
        recipients: Sequence[AnyRecipient],
        text: str | None = None,
        content: NewContent | None = None,
        class_: str = "normal",
        ttl: str | None = None,
        send_at: str | None = None,
        campaign: str | None = None,
        key: str | None = None,
    ) -> Receipt:
        """Submit one message per recipient: an address, `{"to", "params", "ref"}` or a struct.

        `text` is short for `content=NewContent(text=…)`. With a `key` of your own the call can be
        made again after a crash and is still carried out once. Raises ApiError, ApiUnavailable.
        """
        fields = {
            "channel": channel,
            "from": sender,
            "content": msgspec.to_builtins(content or NewContent(text=text)),
            "recipients": [_plain(recipient) for recipient in recipients],
            "class": class_,
            "ttl": ttl,
            "send_at": send_at,
            "campaign": campaign,
        }
        return await self._submit(msgspec.json.encode(fields), key)

    async def submit(self, messages: NewMessages, *, key: str | None = None) -> Receipt:
        """Like `send`, for a whole call; `batch` and `first` of it append to a batch.
        Raises ApiError, ApiUnavailable."""
        return await self._submit(msgspec.json.encode(messages), key)

    async def _submit(self, body: bytes, key: str | None) -> Receipt:
        headers = {
            "Content-Type": JSON,
            "Idempotency-Key": key or new_ulid(int(time.time() * 1000)),
        }
        return await self._call("POST", "/v1/messages", Receipt, body, headers)

    async def message(self, id: str) -> MessageStory:
        """What became of a message. Raises ApiError, ApiUnavailable."""
        return await self._call("GET", f"/v1/messages/{quote(id, safe='')}", MessageStory)

    async def batch(self, id: str) -> BatchCounts:
        """The counts of a batch. Raises ApiError, ApiUnavailable."""
        return await self._call("GET", f"/v1/batches/{quote(id, safe='')}", BatchCounts)

    async def cancel(self, id: str) -> BatchCounts:
        """Cancel what is not sent of a batch; its counts follow as workers reach it.
        Raises ApiError, ApiUnavailable."""
        return await self._call("DELETE", f"/v1/batches/{quote(id, safe='')}", BatchCounts)

    async def _call(
        self,
        method: str,
        path: str,
        result: type[T],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        started, pause = time.monotonic(), FIRST_PAUSE
        while True:
            wait: float | None = None
            try:
                reply = await self._request(method, path, body, headers)
                if reply.status not in PASSING:
                    return _result(reply, result)
                wait, why = reply.retry_after, f"status {reply.status}"
            except (
                aiohttp.ClientConnectionError,
                aiohttp.ClientPayloadError,
                TimeoutError,
            ) as error:
                why = str(error) or type(error).__name__
            wait = random.uniform(pause / 2, pause) if wait is None else wait
            if time.monotonic() - started + wait > self._patience:
                raise ApiUnavailable(f"{masked(self._url)} does not answer: {why}")
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> _Reply:
        if self._session is None:
            raise RuntimeError("use the client inside `async with`")
        async with self._session.request(
            method, self._url + path, data=body, headers=headers
        ) as response:
            after = response.headers.get("Retry-After", "")
            seconds = float(after) if after.isascii() and after.isdigit() else None
            return _Reply(response.status, seconds, await response.read())


def _plain(recipient: AnyRecipient) -> Any:
    if isinstance(recipient, str):
        return {"to": recipient}
    return recipient


def _result(reply: _Reply, result: type[T]) -> T:
    try:
        if reply.status < 300:
            return msgspec.json.decode(reply.body, type=result)
        raise ApiError(msgspec.json.decode(reply.body, type=ProblemBody))
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = f"the answer is not one of this API ({len(reply.body)} bytes)"
        raise ApiError(
            ProblemBody("about:blank", "", reply.status, text, "unexpected_answer")
        ) from None
