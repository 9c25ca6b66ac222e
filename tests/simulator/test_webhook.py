"""The generic receiver, by the letter of the interface page."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.simulator import Settings, Simulator, WebhookAccount
from tests.simulator.clients import Client, hook, message, request


async def test_one_message(simulator: Simulator, client: Client) -> None:
    answer = await client.send(hook(message("b-0", subject="s", ref="order-7"), "b-0"))
    assert answer.status == 202
    (entry,) = simulator.journal.entries()
    assert (entry.event, entry.account, entry.message) == ("accepted", "webhook/demo", "b-0")
    assert (entry.key, entry.to, entry.sender) == ("b-0", "+4915111111111", "shop")
    assert answer.json == {"id": entry.id}


async def test_a_repeat_is_answered_alike_and_not_accepted_again(
    simulator: Simulator, client: Client
) -> None:
    first, second = [await client.send(hook(message("b-0"), "b-0")) for _ in range(2)]
    assert first == second
    assert (simulator.counts.accepted, simulator.counts.repeats) == (1, 1)
    assert [one.event for one in simulator.journal.entries()] == ["accepted", "repeat"]
    simulator.clear()
    assert (await client.send(hook(message("b-0"), "b-0"))).json != first.json
    assert (simulator.counts.accepted, simulator.counts.repeats) == (1, 0)


async def test_a_batch_has_a_result_for_each_message(simulator: Simulator, client: Client) -> None:
    simulator.change_account("webhook/demo", rejects=["+1"])
    await client.send(hook(message("b-1"), "b-1"))
    batch = {
        "messages": [
            message("b-0"),
            message("b-1"),
            message("b-2", to="+1555"),
            {"id": "b-3"},
            message("b-4", colour="red"),
            message("b-5"),
        ]
    }
    answer = await client.send(hook(batch, "hash"))
    results = answer.json["results"]
    assert [next(iter(one)) for one in results] == ["id", "id", "error", "error", "error", "id"]
    assert [one.get("error") for one in results[2:5]] == ["rejected", "invalid", "invalid"]
    events = [one.event for one in simulator.journal.entries(1)]
    assert events == ["accepted", "repeat", "refused", "refused", "refused", "accepted"]
    assert (await client.send(hook(batch, "hash"))).json == answer.json
    assert simulator.counts.accepted == 3
    assert simulator.counts.refused == {"rejected": 2, "invalid": 4}


async def test_one_key_for_two_batches(client: Client) -> None:
    await client.send(hook({"messages": [message("b-0")]}, "hash"))
    answer = await client.send(hook({"messages": [message("b-1")]}, "hash"))
    assert (answer.status, answer.json["error"]) == (422, "key_reused")


@pytest.mark.parametrize(
    ("body", "key", "status", "error"),
    [
        (message("b-0"), None, 400, "no_key"),
        (message("b-0"), "b-1", 400, "wrong_key"),
        (message(""), "", 400, "no_key"),
        (message("b-0", to=""), "b-0", 400, "invalid"),
        (message("b-0", text=None), "b-0", 400, "invalid"),
        (message("b-0", colour="red"), "b-0", 400, "invalid"),
        ({"id": "b-0"}, "b-0", 400, "invalid"),
        ([], "b-0", 400, "invalid"),
        ({"messages": []}, "b-0", 400, "invalid"),
        ({"messages": "all"}, "b-0", 400, "invalid"),
        ({"messages": [], "more": 1}, "b-0", 400, "invalid"),
    ],
)
async def test_a_refused_request(
    simulator: Simulator, client: Client, body: Any, key: str | None, status: int, error: str
) -> None:
    answer = await client.send(hook(body, key))
    assert (answer.status, answer.json["error"]) == (status, error)
    assert simulator.counts.refused == {error: 1}


async def test_method_content_type_name_and_suspension(
    simulator: Simulator, client: Client
) -> None:
    assert (await client.get("/webhook/demo")).status == 405
    raw = hook(message("b-0"), "b-0", Content_Type="text/plain")
    assert (await client.send(raw)).json["error"] == "media_type"
    assert (await client.send(hook(message("b-0"), "b-0", "/webhook/other"))).status == 404
    broken = request(
        "POST", "/webhook/demo", b"{", Content_Type="application/json", Idempotency_Key="b"
    )
    assert (await client.send(broken)).json["error"] == "invalid"
    simulator.change_account("webhook/demo", suspended=True)
    assert (await client.send(hook(message("b-0"), "b-0"))).status == 403
    assert simulator.counts.accepted == 0


async def test_a_token() -> None:
    simulator = Simulator(Settings((WebhookAccount(token="secret"),)))
    async with Client(await simulator.start()) as client:
        assert (await client.send(hook(message("b-0"), "b-0"))).status == 401
        for given, status in (("Bearer wrong", 401), ("Basic secret", 401), ("bearer secret", 202)):
            raw = hook(message("b-0"), "b-0", Authorization=given)
            assert (await client.send(raw)).status == status
    await simulator.stop()
