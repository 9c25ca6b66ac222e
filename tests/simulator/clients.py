"""Clients of the simulator: raw bytes over a socket, and the requests the providers document."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

SID = "AC" + "0" * 32
TOKEN = "0" * 32
TWILIO = f"/2010-04-01/Accounts/{SID}/Messages.json"
LABEL = f"twilio/{SID}"
SMS = {"To": "+4915111111111", "From": "+4915550006", "Body": "Hi"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection. Every read ends with the test's own patience."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def read(self) -> Answer:
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            if headers.get("transfer-encoding") == "chunked":
                body = await self._read_chunks()
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return Answer(int(first.split()[1]), headers, body)

    async def _read_chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body

    async def read_end(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(5):
            return await self.reader.read()

    async def is_silent(self) -> bool:
        """No byte arrives and the connection stays open."""
        try:
            async with asyncio.timeout(0.1):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    async def send(self, raw: bytes) -> Answer:
        self.writer.write(raw)
        return await self.read()

    async def get(self, path: str) -> Answer:
        return await self.send(request("GET", path))

    async def sms(self, **changes: str) -> Answer:
        return await self.send(sms(**changes))


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    lines = {"Host": "simulator", **{k.replace("_", "-"): v for k, v in headers.items()}}
    if body:
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def basic(user: str = SID, secret: str = TOKEN) -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


def sms(**changes: str) -> bytes:
    """A good request for one SMS; an empty value leaves the parameter out."""
    fields = {name: value for name, value in {**SMS, **changes}.items() if value}
    return form(urlencode(fields).encode())


def form(body: bytes, **headers: str) -> bytes:
    given = {
        "Authorization": basic(),
        "Content_Type": "application/x-www-form-urlencoded",
        **headers,
    }
    return request("POST", TWILIO, body, **given)


def hook(body: Any, key: str | None, path: str = "/webhook/demo", **headers: str) -> bytes:
    """A request to a webhook receiver; `key` None leaves Idempotency-Key out."""
    given = {"Content_Type": "application/json", **headers}
    if key is not None:
        given["Idempotency_Key"] = key
    return request("POST", path, json.dumps(body).encode(), **given)


def message(id: str, **changes: Any) -> dict[str, Any]:
    """One message for a webhook receiver."""
    return {
        "id": id,
        "channel": "sms",
        "from": "shop",
        "to": "+4915111111111",
        "text": "Hi",
        **changes,
    }
