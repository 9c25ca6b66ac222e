"""`/openapi.json`: that it is valid, complete and true."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.web.conftest import bearer

EXAMPLES = 6
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


async def test_every_path_and_problem_is_there(
    http: aiohttp.ClientSession, shared_url: str
) -> None:
    async with http.get(f"{shared_url}/openapi.json") as response:
        assert response.content_type == "application/json"
        found = await response.json()
    assert found["openapi"].startswith("3.1")
    post = found["paths"]["/v1/messages"]["post"]
    assert {"202", "400", "401", "403", "408", "409", "413", "415", "422", "429", "503"} <= set(
        post["responses"]
    )
    assert set(post["requestBody"]["content"]) == {"application/json", "application/msgpack"}
    assert {"/v1/messages/{id}", "/v1/batches/{id}", "/healthz", "/readyz", "/metrics",
            "/openapi.json", "/v1/lanes", "/v1/lanes/{lane}/suspend", "/v1/lanes/{lane}/resume",
            "/v1/lanes/{lane}/move", "/v1/limits/{name}", "/v1/dead", "/v1/dead/replay",
            "/v1/dead/resolve", "/v1/dead/drop", "/v1/audit"} <= set(found["paths"])  # fmt: skip
    suspend = found["paths"]["/v1/lanes/{lane}/suspend"]["post"]
    assert {"200", "401", "403", "422", "503"} <= set(suspend["responses"])
    assert suspend["security"] == [{"token": []}]
    fields = found["components"]["schemas"]["NewMessages"]["properties"]
    assert {"channel", "from", "class", "batch", "first"} <= set(fields)
    schemathesis.openapi.from_dict(found).validate()


@pytest.mark.parametrize("token", ["acme-token", "ann-token", "wrong"])
async def test_whatever_comes_it_answers_as_documented(
    http: aiohttp.ClientSession, shared_url: str, token: str
) -> None:
    """Calls made up from the document itself, good ones and bad ones."""
    async with http.get(f"{shared_url}/openapi.json") as response:
        schema = schemathesis.openapi.from_dict(await response.json())
    await asyncio.to_thread(fuzz, schema, shared_url, bearer(token))


def fuzz(schema: Any, url: str, headers: dict[str, str]) -> None:
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
               | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))  # fmt: skip
        def attempt(case: Any) -> None:
            case.call_and_validate(base_url=url, headers=headers, checks=CHECKS)

        attempt()
