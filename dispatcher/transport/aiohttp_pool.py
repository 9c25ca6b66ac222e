"""HTTP through aiohttp: works behind proxies and with odd servers."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from dispatcher.exchange import Delivery, Done, HttpAnswer, HttpRequest, Result, monotonic
from dispatcher.transport.request import header_line

log = logging.getLogger(__name__)

HEAD_BYTES = 64 << 10
"""Bytes of the headers of an answer; more is a breach of protocol."""
BODY_BYTES = 1 << 20
"""Bytes of the body of an answer; more is a breach of protocol."""


class AiohttpTransport:
    """A keep-alive pool of at most `concurrency` connections. Never follows redirects: a provider
    that redirects a POST is misconfigured, and following could send it twice. What a server sends
    on an idle connection aiohttp takes for the answer to the next request; the lean transport
    closes such a connection.

    `connect_seconds` bounds the making of a connection, the wait for its turn included; `ca_file`
    names the authorities to trust instead of those of the system.
    """

    def __init__(
        self, concurrency: int, *, connect_seconds: float = 10.0, ca_file: str | None = None
    ) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_mark_written)
        self._connect_seconds = connect_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=concurrency,
                keepalive_timeout=30,
                ttl_dns_cache=30,
                ssl=_trusting(ca_file) if ca_file is not None else True,
            ),
            trace_configs=[trace],
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=HEAD_BYTES,
            max_field_size=HEAD_BYTES,
        )
        self._proxies: dict[str, _Proxy | None] = {}
        self._sends: set[asyncio.Task[Result]] = set()

    def __repr__(self) -> str:
        return f"<AiohttpTransport: {len(self._sends)} under way>"

    def send(self, request: HttpRequest, done: Done) -> None:
        """See `Transport.send`."""
        latest = math.inf if request.write_by is None else request.write_by
        mark = _Mark(latest, request.may_write)
        task = asyncio.get_running_loop().create_task(self._send(request, mark))
        self._sends.add(task)
        task.add_done_callback(partial(self._ended, done, mark))

    async def close(self) -> None:
        """See `Transport.close`."""
        sends = tuple(self._sends)
        for task in sends:
            task.cancel()
        await asyncio.gather(*sends, return_exceptions=True)
        await self._session.close()

    def _ended(self, done: Done, mark: _Mark, task: asyncio.Task[Result]) -> None:
        """A callback of the task, for one that is cancelled early never runs at all."""
        self._sends.discard(task)
        if task.cancelled():
            done(_failed(mark, "reset"))
        elif error := task.exception():
            log.error("a request has failed", exc_info=error)
            done(_failed(mark, "protocol"))
        else:
            done(task.result())

    async def _send(self, request: HttpRequest, mark: _Mark) -> Result:
        if self._session.closed:
            return _failed(mark, "reset")
        left = mark.write_by - monotonic()
        try:
            if left <= 0:
                raise _Late
            answer = await self._exchange(request, mark, min(left, self._connect_seconds))
        except _Late:
            return _failed(mark, "deadline")
        except aiohttp.ConnectionTimeoutError:
            return _failed(mark, "deadline" if left < self._connect_seconds else "connect")
        except TimeoutError:
            return _failed(mark, "timeout")
        except aiohttp.ClientConnectionResetError:
            # Raised by aiohttp before it writes to a connection that is closing already.
            return _failed(mark, "reset")
        except (aiohttp.ClientConnectionError, OSError):
            return _failed(mark, "reset" if mark.written else "connect")
        except (aiohttp.ClientError, ValueError):
            return _failed(mark, "protocol")
        return Result(Delivery.ANSWERED, answer)

    async def _exchange(
        self, request: HttpRequest, mark: _Mark, connect_seconds: float
    ) -> HttpAnswer:
        # aiohttp would notice only after it has reported the headers as sent.
        for name, value in request.headers.items():
            header_line(name, value)
        proxy = self._proxy(request.url)
        timeout = aiohttp.ClientTimeout(total=request.timeout, connect=connect_seconds)
        async with self._session.request(
            request.method,
            request.url,
            data=request.body,
            headers={**request.headers, **proxy.each} if proxy else request.headers,
            timeout=timeout,
            allow_redirects=False,
            proxy=proxy.url if proxy else None,
            proxy_headers=proxy.tunnel if proxy else None,
            trace_request_ctx=mark,
        ) as response:
            body = await _read(response)
            headers = {name.lower(): value for name, value in response.headers.items()}
            return HttpAnswer(response.status, headers, body)

    def _proxy(self, url: str) -> _Proxy | None:
        """aiohttp's own `trust_env` reads the environment and ~/.netrc again for every request,
        each time in another thread."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._proxies:
            self._proxies[origin] = _proxy_of(parts.scheme, parts.netloc)
        return self._proxies[origin]


class _Proxy(NamedTuple):
    """`each` are headers for every plain request, `tunnel` those for opening one for TLS."""

    url: str
    each: dict[str, str]
    tunnel: dict[str, str]


def _proxy_of(scheme: str, netloc: str) -> _Proxy | None:
    """What the environment says: HTTP_PROXY, HTTPS_PROXY, NO_PROXY."""
    found = getproxies().get(scheme)
    if found is None or proxy_bypass(netloc.rpartition("@")[2]):
        return None
    parts = urlsplit(found)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.username is None:
        return _Proxy(url, {}, {})
    login = aiohttp.encode_basic_auth(unquote(parts.username), unquote(parts.password or ""))
    headers = {"Proxy-Authorization": login}
    return _Proxy(url, headers, {}) if scheme == "http" else _Proxy(url, {}, headers)


class _Mark:
    """Notes that the first byte of a request has gone out; after `write_by`, or when `may_write`
    says no, none may."""

    __slots__ = ("may_write", "write_by", "written")

    def __init__(self, write_by: float, may_write: Callable[[], bool]) -> None:
        self.write_by = write_by
        self.may_write = may_write
        self.written = False


class _Late(Exception):
    """The time to write a request is over."""


def _trusting(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises ValueError, and drops the connection, when the answer is too long or is
    no answer but a switch of protocols."""
    head = sum(len(name) + len(value) + 4 for name, value in response.raw_headers)
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > BODY_BYTES:
            break
    if response.status < 200 or head > HEAD_BYTES or len(body) > BODY_BYTES:
        response.close()
        raise ValueError("the answer is too long, or none")
    return bytes(body)


def _failed(mark: _Mark, reason: str) -> Result:
    return Result(Delivery.UNKNOWN if mark.written else Delivery.NOT_SENT, None, reason)


async def _mark_written(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    mark: _Mark = context.trace_request_ctx
    if mark.write_by <= monotonic() or not mark.may_write():
        raise _Late
    mark.written = True
