"""HTTP through aiohttp: works behind proxies and with odd servers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import aiohttp

from dispatcher.exchange import Delivery, Done, HttpAnswer, HttpRequest, Result

CONNECT_SECONDS = 10.0
ANSWER_BYTES = 1 << 20


class AiohttpTransport:
    """A keep-alive pool of at most `concurrency` connections. Never follows redirects: a provider
    that redirects a POST is misconfigured, and following could send it twice."""

    def __init__(self, concurrency: int) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_mark_written)
        connector = aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=30, ttl_dns_cache=30)
        self._session = aiohttp.ClientSession(
            connector=connector,
            trace_configs=[trace],
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,
        )
        self._sends: set[asyncio.Task[None]] = set()

    def send(self, request: HttpRequest, done: Done) -> None:
        """See `Transport.send`."""
        task = asyncio.get_running_loop().create_task(self._send(request, done))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    async def close(self) -> None:
        """See `Transport.close`."""
        for task in self._sends:
            task.cancel()
        await asyncio.gather(*self._sends, return_exceptions=True)
        await self._session.close()

    async def _send(self, request: HttpRequest, done: Done) -> None:
        mark = _Mark()
        try:
            result = await self._exchange(request, mark)
        except asyncio.CancelledError:
            done(_failed(mark, "reset"))
            raise
        except TimeoutError:
            result = _failed(mark, "timeout")
        except aiohttp.ClientConnectionResetError:
            # Raised by aiohttp before it writes to a connection that is closing already.
            result = _failed(mark, "reset")
        except (aiohttp.ClientConnectionError, OSError):
            result = _failed(mark, "reset" if mark.written else "connect")
        except (aiohttp.ClientError, ValueError):
            result = _failed(mark, "protocol")
        done(result)

    async def _exchange(self, request: HttpRequest, mark: _Mark) -> Result:
        timeout = aiohttp.ClientTimeout(total=request.timeout, connect=CONNECT_SECONDS)
        async with self._session.request(
            request.method,
            request.url,
            data=request.body,
            headers=request.headers,
            timeout=timeout,
            allow_redirects=False,
            trace_request_ctx=mark,
        ) as response:
            body = await response.content.read(ANSWER_BYTES)
            while not response.content.at_eof() and len(body) < ANSWER_BYTES:
                body += await response.content.read(ANSWER_BYTES - len(body))
            if not response.content.at_eof():
                response.close()
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Result(Delivery.ANSWERED, HttpAnswer(response.status, headers, body))


class _Mark:
    """Notes that the first byte of a request has gone out."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written = False


def _failed(mark: _Mark, reason: str) -> Result:
    return Result(Delivery.UNKNOWN if mark.written else Delivery.NOT_SENT, None, reason)


async def _mark_written(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    context.trace_request_ctx.written = True
