"""The verbs of operators over HTTP: who may call them, and that they do what the commands do."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from dispatcher.messages import Row, message_id, new_ulid
from dispatcher.store.opening import Store
from tests.store.cell import body_of
from tests.store.letter import bury
from tests.web.conftest import OPERATORS, PROVIDER, TENANTS, Serve, bearer, submission

ANN, ACME = bearer("ann-token"), bearer("acme-token")
LANE = "twilio-test/sms/de"
CALLS = [
    ("GET", "/v1/lanes", None),
    ("POST", f"/v1/lanes/{quote(LANE, '')}/suspend", {"reason": "r"}),
    ("POST", f"/v1/lanes/{quote(LANE, '')}/resume", None),
    ("POST", f"/v1/lanes/{quote(LANE, '')}/move", {"to": "twilio-test"}),
    ("GET", "/v1/limits", None),
    ("GET", "/v1/limits/provider:twilio-test", None),
    ("PUT", "/v1/limits/provider:twilio-test", {"rate": "5/s"}),
    ("DELETE", "/v1/limits/provider:twilio-test", None),
    ("GET", "/v1/dead", None),
    ("POST", "/v1/dead/replay", {"all": True}),
    ("POST", "/v1/dead/resolve", {"all": True, "outcome": "sent"}),
    ("POST", "/v1/dead/drop", {"all": True}),
    ("GET", "/v1/audit", None),
]


class Api:
    """Calls of one caller."""

    def __init__(self, http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> None:
        self._http, self._url, self._headers = http, url, headers

    async def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        url = URL(self._url + path, encoded=True)
        async with self._http.request(method, url, json=body, headers=self._headers) as response:
            return response.status, await response.json(content_type=None)


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
async def test_who_may_call(
    http: aiohttp.ClientSession, shared_url: str, method: str, path: str, body: Any
) -> None:
    status, problem = await Api(http, shared_url, ACME)(method, path, body)
    assert (status, problem["code"]) == (403, "forbidden")
    assert problem["detail"] == "this needs the token of an operator"
    for headers in ({}, bearer("wrong")):
        status, problem = await Api(http, shared_url, headers)(method, path, body)
        assert (status, problem["code"]) == (401, "unauthorized")
    assert (await Api(http, shared_url, ANN)(method, path, body))[0] in (200, 404)


async def test_an_operator_is_no_tenant(http: aiohttp.ClientSession, shared_url: str) -> None:
    status, problem = await Api(http, shared_url, ANN)("POST", "/v1/messages", submission())
    assert (status, problem["detail"]) == (403, "this needs the token of a tenant")


async def test_without_operators_tenants_are_none(
    http: aiohttp.ClientSession, serve: Serve
) -> None:
    api = Api(http, await serve(PROVIDER + TENANTS), ACME)
    status, problem = await api("GET", "/v1/lanes")
    assert status == 403
    assert problem["detail"].endswith("none is configured ([operators.NAME] token)")


async def test_without_tokens_who_is_on_this_machine_is_an_operator(
    http: aiohttp.ClientSession, url: str, serve: Serve
) -> None:
    api = Api(http, url, {})
    assert (await api("POST", "/v1/lanes/twilio-test/suspend", {"reason": "r"}))[0] == 200
    (action,) = (await api("GET", "/v1/audit"))[1]["actions"]
    assert action["who"] == "local"
    guarded = Api(http, await serve(PROVIDER + OPERATORS), {})
    assert (await guarded("GET", "/v1/lanes"))[0] == 401
    assert (await guarded("POST", "/v1/messages", submission()))[0] == 202


async def test_suspend_and_resume(http: aiohttp.ClientSession, shared_url: str) -> None:
    ann, acme = Api(http, shared_url, ANN), Api(http, shared_url, ACME)
    await acme("POST", "/v1/messages", submission("+4915550000001", "+4917110000001"))
    (state,) = (await ann("GET", "/v1/lanes"))[1]["lanes"]
    assert (state["lane"], state["waiting"], state["suspended"]) == (LANE, 2, False)
    path = f"/v1/lanes/{quote('twilio-test/sms/d*', '')}"
    status, done = await ann("POST", f"{path}/suspend", {"reason": " wrong\ntext ", "for": "30m"})
    assert (status, done["lane"], done["reason"]) == (200, "twilio-test/sms/d*", "wrong text")
    assert done["lanes"] == [LANE]
    status, found = await ann("GET", "/v1/lanes?lane=twilio-test")
    assert found["lanes"][0]["waiting_for"] == "suspended: wrong text"
    assert found["lanes"][0]["suspended_until"] == done["until"]
    assert found["suspended"] == [
        {"lane": "twilio-test/sms/d*", "until": done["until"], "reason": "wrong text"}
    ]
    assert (await ann("GET", "/v1/lanes?lane=twilio-test/sms/us"))[1]["lanes"] == []
    assert await ann("POST", f"{path}/resume") == (
        200, {"lane": "twilio-test/sms/d*", "lanes": [LANE]},
    )  # fmt: skip
    status, problem = await ann("POST", f"{path}/resume")
    assert (status, problem["code"]) == (404, "not_suspended")
    forever = await ann("POST", f"{path}/suspend", {"reason": "r", "for": "forever"})
    assert forever[1]["until"] is None
    told = (await ann("GET", "/v1/audit"))[1]["actions"]
    assert [(one["who"], one["what"], one["detail"]) for one in told] == [
        ("ann", "suspend", "forever"), ("ann", "resume", ""), ("ann", "suspend", "for 30m"),
    ]  # fmt: skip
    assert len((await ann("GET", "/v1/audit?limit=1"))[1]["actions"]) == 1


REFUSED = [
    ("POST", "/v1/lanes/twilio-test/suspend", {"reason": ""}, "Expected `str` of length >= 1"),
    ("POST", "/v1/lanes/twilio-test/suspend", {"reason": " "}, "reason must say why"),
    ("POST", "/v1/lanes/twilio-test/suspend", {}, "missing required field `reason`"),
    ("POST", "/v1/lanes/twilio-test/suspend", {"reason": "r", "for": "soon"}, "for must be a"),
    ("POST", "/v1/lanes/twilo-test/suspend", {"reason": "r"}, "did you mean twilio-test?"),
    ("GET", "/v1/lanes?lane=twilo-test", None, "did you mean twilio-test?"),
    ("POST", "/v1/lanes/twilo-test/move", {"to": "twilio-test"}, "did you mean twilio-test?"),
    ("POST", "/v1/lanes/a%20b/suspend", {"reason": "r"}, "LANE must be"),
    ("POST", "/v1/lanes/x/move", {"to": "nowhere"}, "there is no provider nowhere"),
    ("PUT", "/v1/limits/provider:twilio-test", {"rate": "5/day"}, "rate must be per s, min or h"),
    ("GET", "/v1/audit?limit=0", None, "limit must be 1 to 10000"),
    ("GET", "/v1/dead?limit=x", None, "limit must be 1 to 10000"),
    ("GET", "/v1/dead?since=soon", None, "since must be an RFC 3339 time"),
    ("GET", "/v1/dead?provider=twilo-test", None, "did you mean twilio-test?"),
    ("POST", "/v1/dead/drop", {"provider": "x"}, "there is no provider x; known: twilio-test"),
    ("POST", "/v1/dead/drop", {}, "say which letters, or all"),
    ("POST", "/v1/dead/replay", {"rate": "5/s"}, "say which letters, or all"),
    ("POST", "/v1/dead/replay", {"rate": "x"}, "rate must be a rate above 0"),
    ("POST", "/v1/dead/drop", {"messages": ["x"]}, "'x' is not a message id"),
]


@pytest.mark.parametrize(("method", "path", "body", "words"), REFUSED)
async def test_what_cannot_be_meant(
    http: aiohttp.ClientSession, shared_url: str, method: str, path: str, body: Any, words: str
) -> None:
    status, problem = await Api(http, shared_url, ANN)(method, path, body)
    assert status == 422
    assert words in problem["detail"]


async def test_limits_by_name(http: aiohttp.ClientSession, serve: Serve) -> None:
    limits = (
        '[[limits]]\nname = "numbers"\nprovider = "twilio-test"\neach = "sender"\nrate = "1/s"\n'
    )
    ann = Api(http, await serve(PROVIDER + OPERATORS + limits), ANN)
    path = "/v1/limits/provider:twilio-test"
    assert (await ann("GET", path))[1]["rate"] is None
    status, done = await ann("PUT", path, {"rate": "30/min", "for": "1h"})
    assert (status, done["rate"], done["set"]) == (200, 0.5, 0.5)
    assert done["set_until"] is not None
    assert (await ann("GET", path))[1]["set_until"] == done["set_until"]
    assert (await ann("DELETE", path))[1]["set"] is None
    names = [one["name"] for one in (await ann("GET", "/v1/limits"))[1]["limits"]]
    assert names == ["provider:twilio-test"]
    status, problem = await ann("GET", "/v1/limits/provider:twilio")
    assert (status, "did you mean provider:twilio-test?" in problem["detail"]) == (404, True)
    assert (await ann("PUT", "/v1/limits/numbers", {"rate": "5/s"}))[0] == 404


async def test_a_name_with_a_slash_is_one_segment(
    http: aiohttp.ClientSession, shared_url: str, store: Store
) -> None:
    name = "numbers/+15005550006"
    fields = {"interval": "1000000.0", "burst": 1, "tat": 0}
    await store.client.hset(store.keys.name("limit", name), mapping=fields)
    await store.client.sadd(store.keys.name("limits"), name)
    status, found = await Api(http, shared_url, ANN)("GET", f"/v1/limits/{quote(name, '')}")
    assert (status, found["name"], found["rate"]) == (200, name, 1)
    assert (await Api(http, shared_url, ANN)("GET", f"/v1/limits/{name}"))[0] == 404


async def bury_some(store: Store, count: int, code: str = "30008") -> list[str]:
    batch = new_ulid(0)
    names = [message_id(batch, index) for index in range(count)]
    for index, name in enumerate(names):
        body = body_of(batch, [Row(index, "+4915550000001")])
        await bury(store, name, body, code=code, lane=LANE)
    return names


async def test_dead_letters(http: aiohttp.ClientSession, shared_url: str, store: Store) -> None:
    ann = Api(http, shared_url, ANN)
    names, others = await bury_some(store, 3), await bury_some(store, 2, "21211")
    status, found = await ann("GET", "/v1/dead?code=30008&limit=2")
    assert (status, found["total"]) == (200, 5)
    assert [one["message"] for one in found["letters"]] == [names[2], names[1]]
    assert found["letters"][0]["class"] == "bulk"
    by = [{"provider": "twilio-test", "code": "30008", "messages": 3}]
    status, done = await ann("POST", "/v1/dead/replay", {"code": "30008", "dry_run": True})
    assert (status, done) == (
        200,
        {"messages": 3, "dry_run": True, "by": by, "left": {}, "refused": []},
    )
    assert (await ann("GET", "/v1/dead"))[1]["total"] == 5
    _, done = await ann("POST", "/v1/dead/replay", {"code": "30008", "rate": "1/h"})
    assert (done["messages"], done["dry_run"]) == (3, False)
    assert await store.client.zcard(store.keys.name("scheduled")) == 2
    _, done = await ann("POST", "/v1/dead/drop", {"messages": [*others, names[0]]})
    assert done["messages"] == 2
    assert [one["message"] for one in done["refused"]] == [names[0]]
    assert (await ann("GET", "/v1/dead"))[1] == {"letters": [], "total": 0}
    told = (await ann("GET", "/v1/audit"))[1]["actions"]
    assert [(one["what"], one["on"], one["affected"]) for one in told] == [
        ("dead drop", "3 named", 2), ("dead replay", "code 30008", 3),
    ]  # fmt: skip


async def test_an_operator_sees_and_cancels_every_batch(
    http: aiohttp.ClientSession, shared_url: str
) -> None:
    ann, acme = Api(http, shared_url, ANN), Api(http, shared_url, ACME)
    batch = (await acme("POST", "/v1/messages", submission()))[1]["batch"]
    assert (await ann("GET", f"/v1/messages/{batch}-0"))[1]["tenant"] == "acme"
    assert (await ann("DELETE", f"/v1/batches/{batch}"))[0] == 200
    assert (await acme("DELETE", f"/v1/batches/{batch}"))[0] == 200
    (action,) = (await ann("GET", "/v1/audit"))[1]["actions"]
    assert (action["who"], action["what"], action["on"]) == ("ann", "cancel", batch)
    assert action["affected"] == 1


async def test_what_waits_is_moved(http: aiohttp.ClientSession, serve: Serve) -> None:
    both = PROVIDER + '[providers.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/x"\n'
    ann = Api(http, await serve(both), {})
    await ann("POST", "/v1/messages", submission())
    path = f"/v1/lanes/{quote(LANE, '')}/move"
    assert await ann("POST", path, {"to": "hook"}) == (
        200, {"messages": 1, "lanes": {LANE: 1}, "left": {}, "held": 0},
    )  # fmt: skip
    assert [one["lane"] for one in (await ann("GET", "/v1/lanes"))[1]["lanes"]] == ["hook/sms/de"]
