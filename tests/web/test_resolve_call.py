"""`POST /v1/dead/resolve`: the same words, checks and effects as those of `dead resolve`."""

from __future__ import annotations

from typing import get_args

import aiohttp
import msgspec
import pytest

from dispatcher.engine.resolving import WORDS
from dispatcher.messages import Status, new_ulid
from dispatcher.operator_bodies import OutcomeWord, ResolveLetters
from dispatcher.store.opening import Store
from dispatcher.store.resolving import Resolver, Said
from tests.store.cell import Cell
from tests.store.letter import settled
from tests.web.test_operators import ACME, ANN, LANE, Api

PATH = "/v1/dead/resolve"


@pytest.fixture
async def cell(store: Store) -> Cell:
    """Four unknown messages and one that was sent."""
    cell = Cell(store)
    await cell.limit("provider:twilio-test")
    await cell.worker("w1")
    await settled(cell, [*[Status.UNKNOWN] * 4, Status.SENT], LANE)
    return cell


@pytest.fixture
def ann(http: aiohttp.ClientSession, shared_url: str) -> Api:
    return Api(http, shared_url, ANN)


async def test_messages_by_their_ids(ann: Api, cell: Cell) -> None:
    known, sent, other = f"{cell.batch}-0", f"{cell.batch}-4", f"{new_ulid(7)}-1"
    asked = {"messages": [known, sent, other], "outcome": "delivered", "reason": "console"}
    status, done = await ann("POST", PATH, asked)
    assert (status, done["messages"], done["outcomes"]) == (200, 1, {"delivered": 1})
    assert done["refused"] == [
        {"message": sent, "detail": f"{sent} is sent, not unknown"},
        {"message": other, "detail": f"{other} is not known in this store"},
    ]
    again = (await ann("POST", PATH, asked))[1]
    assert (again["messages"], again["already"], len(again["refused"])) == (0, 1, 2)

    story = (await ann("GET", f"/v1/messages/{known}"))[1]
    assert story["status"] == "delivered"
    assert [(one["code"], one["by"]) for one in story["attempts"]] == [("resolved", "ann")]
    counts = (await ann("GET", f"/v1/batches/{cell.batch}"))[1]
    assert [counts[word] for word in ("unknown", "delivered", "sent")] == [3, 1, 1]
    listed = (await ann("GET", "/v1/dead?code=unknown"))[1]["letters"]
    assert known not in {one["message"] for one in listed}
    (action,) = (await ann("GET", "/v1/audit"))[1]["actions"]
    told = [action[word] for word in ("who", "what", "on", "detail", "reason", "affected")]
    assert told == ["ann", "dead resolve", "3 named", "as delivered", "console", 1]


async def test_a_selection(ann: Api, cell: Cell) -> None:
    asked = {"provider": "twilio-test", "outcome": "undelivered"}
    by = [{"provider": "twilio-test", "code": "timeout", "messages": 4}]
    status, done = await ann("POST", PATH, asked | {"dry_run": True})
    assert (status, done["by"], done["dry_run"]) == (200, by, True)
    assert (await ann("GET", "/v1/dead"))[1]["total"] == 4
    done = (await ann("POST", PATH, asked))[1]
    assert (done["by"], done["outcomes"]) == (by, {"undelivered": 4})
    assert (await ann("GET", "/v1/dead"))[1]["total"] == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"outcome": "sent"}, "say which letters, or all"),
        ({"provider": "x", "outcome": "sent"}, "there is no provider x; known: twilio-test"),
        ({"all": True}, "missing required field `outcome`"),
        ({"all": True, "outcome": "queued"}, "Invalid enum value 'queued'"),
        ({"messages": ["x"], "outcome": "sent"}, "'x' is not a message id (<batch>-<index>)"),
        ({"all": True, "outcome": "sent", "status": "dead"}, "unknown field `status`"),
        ({"all": True, "outcome": "sent", "reason": " "}, "reason must say why"),
        ({"since": "soon", "outcome": "sent"}, "since must be an RFC 3339 time"),
    ],
)
async def test_what_cannot_be_meant(ann: Api, body: dict[str, object], words: str) -> None:
    status, problem = await ann("POST", PATH, body)
    assert status == 422
    assert words in problem["detail"]


async def test_the_document_has_an_example(http: aiohttp.ClientSession, shared_url: str) -> None:
    async with http.get(f"{shared_url}/openapi.json") as response:
        found = (await response.json())["paths"]
    for verb in ("replay", "resolve", "drop"):
        content = found[f"/v1/dead/{verb}"]["post"]["requestBody"]["content"]
        assert content["application/json"]["example"]
    example = found[PATH]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert msgspec.convert(example, ResolveLetters).outcome in WORDS


def test_the_call_takes_the_words_of_the_command() -> None:
    assert set(get_args(OutcomeWord)) == set(WORDS)


async def test_a_receipt_comes_after_the_operator(
    ann: Api, http: aiohttp.ClientSession, shared_url: str, cell: Cell
) -> None:
    message = f"{cell.batch}-2"
    await ann("POST", PATH, {"messages": [message], "outcome": "sent"})
    said = [Said(message, Status.DELIVERED, "SM1")]
    await Resolver(cell.client, cell.keys).resolve(said, 3600)
    story = (await ann("GET", f"/v1/messages/{message}"))[1]
    assert (story["status"], story["provider_id"]) == ("delivered", "SM1")
    assert [one["by"] for one in story["attempts"]] == ["ann", "receipt"]
    await cell.client.hset(cell.keys.name("batch", cell.batch), "tenant", "acme")
    told = (await Api(http, shared_url, ACME)("GET", f"/v1/messages/{message}"))[1]
    assert [one["by"] for one in told["attempts"]] == ["operator", "receipt"]
    assert told | {"attempts": []} == story | {"tenant": "acme", "attempts": []}
