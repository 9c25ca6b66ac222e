"""HTTP: finds the route, reads the body within bounds, and turns everything that goes wrong into a
problem. Nothing of a body is ever logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from aiohttp import web

from dispatcher.bodies import BODY_BYTES, PROBLEM_JSON
from dispatcher.errors import DispatcherError, StoreUnavailable, TenantFull
from dispatcher.web.access import Access, Caller
from dispatcher.web.calls import Answer, Call
from dispatcher.web.openapi import Route
from dispatcher.web.problems import Problem, not_found, store_problem

log = logging.getLogger(__name__)

BODY_SECONDS = 30.0
"""How long a body may take to arrive."""
IDLE_SECONDS = 75.0
"""How long a connection may take to bring the headers of its next request."""
LINGER_SECONDS = 5.0
"""How long the rest of a refused body is read, so that its sender sees the answer."""
STOP_SECONDS = 20.0
"""How long calls under way may take when the process ends."""

Body = TypeVar("Body", bytes, bytearray)

_encode = msgspec.json.Encoder().encode


class Connection(web.RequestHandler):
    """One client; what aiohttp itself refuses is a problem like any other."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Called for HTTP that cannot be parsed."""
        response = problem_response(
            Problem(
                status, "malformed_request", "the request line or a header is malformed or too long"
            )
        )
        response.force_close()
        return response


class Server(web.Server):
    """Makes connections with the bounds of this API."""

    def __call__(self) -> Connection:
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # the documented way to have none
        )


class Dispatch:
    """From a request to its handler and back; `failed` is told that the store did not answer."""

    def __init__(
        self,
        routes: Sequence[Route],
        access: Access,
        failed: Callable[[StoreUnavailable], None],
    ) -> None:
        self._access = access
        self._failed = failed
        self._fixed = {route.path: _methods(routes, route.path) for route in routes}
        self._patterns = [
            (_pattern(path), methods) for path, methods in self._fixed.items() if "{" in path
        ]

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Never raises, but for the end of the connection."""
        try:
            return await self._answer(request)
        except Problem as problem:
            return problem_response(problem)
        except StoreUnavailable as error:
            if not isinstance(error, TenantFull):
                self._failed(error)
            return problem_response(store_problem(error))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            where = " ".join(_frames(error))
            log.error("%s failed: %s at %s", request.method, type(error).__name__, where)
            return problem_response(Problem(500, "internal", "the call failed; it was logged"))

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        route, arguments = self._find(request)
        caller = Caller()
        if route.tenant or route.operator:
            given = request.headers.get("Authorization")
            caller = self._access.caller(given, tenant=route.tenant, operator=route.operator)
        body = b"" if route.body is None else await read_body(request)
        query = {name: text for name, text in request.query.items() if name in route.query}
        call = Call(caller.tenant, arguments, request.headers, body, caller.operator, query)
        answer = await route.handler(call)
        return _response(answer, request.headers.get("Accept", ""))

    def _find(self, request: web.BaseRequest) -> tuple[Route, dict[str, str]]:
        methods, arguments = self._methods_of(request.rel_url.raw_path)
        method = "GET" if request.method == "HEAD" else request.method
        route = methods.get(method)
        if route is None:
            allowed = ", ".join(sorted([*methods, *(["HEAD"] if "GET" in methods else [])]))
            raise Problem(
                405, "method_not_allowed", f"allowed: {allowed}", headers={"Allow": allowed}
            )
        return route, arguments

    def _methods_of(self, path: str) -> tuple[dict[str, Route], dict[str, str]]:
        found = self._fixed.get(path)
        if found is not None and "{" not in path:
            return found, {}
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match:
                return methods, {name: unquote(text) for name, text in match.groupdict().items()}
        raise not_found("this path")


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises Problem 400, 408, 413, 415."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Problem(415, "unsupported_encoding", "bodies are not taken compressed")
    if (request.content_length or 0) > BODY_BYTES:
        raise _too_large()
    try:
        if request.content.is_eof():
            return _bounded(request.content.read_nowait())
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(request)
    except TimeoutError:
        raise Problem(408, "body_late", f"the body took over {BODY_SECONDS:g} s") from None
    except web.RequestPayloadError:
        raise Problem(400, "malformed_body", "the body did not arrive in one piece") from None


async def _read(request: web.BaseRequest) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        _bounded(body)
    return bytes(body)


def _bounded(body: Body) -> Body:
    if len(body) > BODY_BYTES:
        raise _too_large()
    return body


def _too_large() -> Problem:
    return Problem(413, "too_large", f"a body may have {BODY_BYTES} bytes")


def problem_response(problem: Problem) -> web.Response:
    """A problem as HTTP; after one about reading, the connection ends."""
    response = web.Response(
        status=problem.status,
        body=_encode(problem.body),
        content_type=PROBLEM_JSON,
        headers=problem.headers,
    )
    if problem.status in (408, 413):
        response.force_close()
    return response


def _response(answer: Answer, accept: str) -> web.Response:
    kind, body = answer.encoded(accept)
    headers = {"Content-Type": kind, **answer.headers}
    return web.Response(status=answer.status, body=body, headers=headers)


def _methods(routes: Sequence[Route], path: str) -> dict[str, Route]:
    return {route.method: route for route in routes if route.path == path}


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path))


def _frames(error: BaseException) -> list[str]:
    """Where it happened, without the texts of errors: they may quote a recipient."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        code: Any = trace.tb_frame.f_code
        frames.append(f"{code.co_qualname}:{trace.tb_lineno}")
        trace = trace.tb_next
    return frames[-6:]


async def listen(
    handler: Callable[[web.BaseRequest], Any], host: str, port: int
) -> web.ServerRunner:
    """Serve there; `cleanup` the runner in the end. Raises DispatcherError if it cannot."""
    runner = web.ServerRunner(Server(handler), shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise DispatcherError(f"cannot listen on {host}:{port}: {reason}") from None
    return runner
