"""`/openapi.json`, made from the routes and the structs they take and give: it cannot disagree."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import msgspec

from dispatcher import __version__
from dispatcher.bodies import JSON, MSGPACK, PROBLEM_JSON, ProblemBody
from dispatcher.web.calls import Handler

MADE_FOR_ALL = (400, 405)
"""Problems that any call may meet: HTTP that cannot be read, a method the path does not have."""
RETRY_AFTER = (429, 503)
_PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: where it is, what handles it and what it may answer. `body` is what it takes,
    `result` what it gives (None: text). `tenant` and `operator` say who may call, neither:
    everybody. `query` are the parameters behind its path, `example` a body."""

    method: str
    path: str
    handler: Handler
    summary: str
    result: type | None
    status: int = 200
    body: type | None = None
    problems: Sequence[int] = ()
    tenant: bool = True
    operator: bool = False
    query: Sequence[str] = ()
    headers: Sequence[str] = field(default=())
    plain: str = "text/plain"
    example: Mapping[str, Any] | None = None

    @property
    def refusals(self) -> list[int]:
        """Every problem it may answer."""
        tokens = (401,) if self.tenant or self.operator else ()
        known = (403,) if self.operator else ()
        return sorted({*self.problems, *MADE_FOR_ALL, *tokens, *known})


def for_operators(route: Route) -> Route:
    """The same route, which only operators may call."""
    return replace(route, tenant=False, operator=True)


HEADERS = {
    "Idempotency-Key": (
        "A call with the same key and body gets the same answer for 24 hours and is carried out "
        "once; another body under the key is refused",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    )
}


QUERY = {
    "provider": "Those of a provider",
    "code": "Those of a code; `unknown`: of which nobody knows whether they were sent",
    "channel": "Those of a channel",
    "tenant": "Those of a tenant",
    "status": "`dead` or `unknown`",
    "since": 'Those since a time (RFC 3339), or for how long, such as "2h"',
    "lane": "Those of a lane, or of a pattern with *",
    "limit": "How many at most, up to 10000",
}


def document(routes: Sequence[Route], secured: Callable[[Route], bool]) -> dict[str, Any]:
    """The OpenAPI 3.1 description; `secured` says whether a route needs a token here."""
    types = {ProblemBody, *(t for r in routes for t in (r.body, r.result) if t is not None)}
    ordered = sorted(types, key=lambda item: item.__name__)
    schemas, components = msgspec.json.schema_components(
        ordered, ref_template="#/components/schemas/{name}"
    )
    refs = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = _operation(route, refs, secured(route))
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    parts: dict[str, Any] = {"schemas": components}
    if any(map(secured, routes)):
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "dispatcher", "version": __version__},
        "paths": paths,
        "components": parts,
    }


def _operation(route: Route, refs: dict[type, Any], secured: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": _name(route), "summary": route.summary}
    parameters = [_in_path(name) for name in _PARAMETER.findall(route.path)]
    parameters += [_header(name) for name in route.headers]
    parameters += [_in_query(name) for name in route.query]
    if parameters:
        found["parameters"] = parameters
    if route.body is not None:
        content = _both(refs[route.body])
        if route.example is not None:
            content[JSON] = content[JSON] | {"example": dict(route.example)}
        found["requestBody"] = {"required": True, "content": content}
    answers = {str(route.status): _result(route, refs)}
    answers |= {str(status): _problem(status, refs[ProblemBody]) for status in route.refusals}
    found["responses"] = answers
    if secured:
        found["security"] = [{"token": []}]
    return found


def _name(route: Route) -> str:
    words = [word for word in re.split(r"\W+", route.path) if word not in ("", "v1")]
    return "_".join([route.method.lower(), *words])


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _header(name: str) -> dict[str, Any]:
    description, schema = HEADERS[name]
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _in_query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": QUERY[name], "schema": {"type": "string"}}


def _result(route: Route, refs: dict[type, Any]) -> dict[str, Any]:
    content = {route.plain: {}} if route.result is None else _both(refs[route.result])
    return {"description": HTTPStatus(route.status).phrase, "content": content}


def _both(schema: Any) -> dict[str, Any]:
    return {JSON: {"schema": schema}, MSGPACK: {"schema": schema}}


def _problem(status: int, schema: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_JSON: {"schema": schema}},
    }
    if status in RETRY_AFTER:
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    if status == HTTPStatus.UNAUTHORIZED:
        answer["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return answer
