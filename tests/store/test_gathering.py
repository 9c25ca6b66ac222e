"""Commands that travel together keep their own replies and errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis import exceptions

from dispatcher.store.gathering import BYTES, COMMANDS, TRIPS, GatheringClient
from dispatcher.store.opening import Store
from dispatcher.store.scripts import Script
from dispatcher.store.submissions import Fixed, Submissions


@pytest.fixture
def client(store: Store) -> GatheringClient:
    return GatheringClient(store.client)


@pytest.fixture
def loads(client: GatheringClient, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands each round trip carried."""
    found: list[int] = []
    travel = client._travel

    async def noted(commands: list[Any]) -> None:
        found.append(len(commands))
        await travel(commands)

    monkeypatch.setattr(client, "_travel", noted)
    return found


async def test_every_command_gets_its_own_reply(store: Store, client: GatheringClient) -> None:
    name = store.keys.name("audit")
    count = 3 * COMMANDS + 1
    places = await asyncio.gather(*(client.rpush(name, n) for n in range(count)))
    assert sorted(places) == list(range(1, count + 1))
    values = await asyncio.gather(*(client.lindex(name, place - 1) for place in places))
    assert [int(value) for value in values] == list(range(count))


async def test_commands_of_one_turn_travel_together(
    store: Store, client: GatheringClient, loads: list[int]
) -> None:
    name = store.keys.name("counter")
    await asyncio.gather(*(client.incr(name) for _ in range(COMMANDS + 1)))
    assert loads == [COMMANDS, 1]


async def test_what_is_given_during_the_trips_waits_for_the_next(
    store: Store, client: GatheringClient, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, go, travel = store.keys.name("counter"), asyncio.Event(), client._travel

    async def held(commands: list[Any]) -> None:
        await go.wait()
        await travel(commands)

    monkeypatch.setattr(client, "_travel", held)
    calls = []
    for _ in range(TRIPS + 5):
        calls.append(asyncio.create_task(client.incr(name)))
        for _ in range(3):
            await asyncio.sleep(0)
    go.set()
    assert sorted(await asyncio.gather(*calls)) == list(range(1, TRIPS + 6))
    assert loads == [*[1] * TRIPS, 5]


async def test_small_commands_do_not_wait_for_many_large_ones(
    store: Store, client: GatheringClient, loads: list[int]
) -> None:
    name, large = store.keys.name("audit"), b"x" * BYTES
    await asyncio.gather(*(client.rpush(name, value) for value in (b"a", large, b"b", b"c")))
    assert loads == [2, 2]


async def test_an_error_concerns_its_own_command(store: Store, client: GatheringClient) -> None:
    text, counter = store.keys.name("audit"), store.keys.name("counter")
    await client.set(text, "no number")
    results = await asyncio.gather(
        client.incr(counter), client.incr(text), client.incr(counter),
        client.evalsha("0" * 40, 0), client.incr(counter),
        return_exceptions=True,
    )  # fmt: skip
    assert [results[0], results[2], results[4]] == [1, 2, 3]
    assert isinstance(results[1], exceptions.ResponseError)
    assert isinstance(results[3], exceptions.NoScriptError)


async def test_scripts_the_server_forgot_are_sent_again(
    store: Store, client: GatheringClient
) -> None:
    calls = Submissions(client, store.keys)
    await store.client.script_flush()
    fixed = [Fixed(f"B{n}", n, b"") for n in range(20)]
    found = await asyncio.gather(*(calls.fix("t", f"k{f.batch}", "a", f) for f in fixed))
    assert found == fixed


async def test_a_lost_connection_is_an_error_for_all_on_it(
    store: Store, client: GatheringClient
) -> None:
    name = store.keys.name("counter")
    results = await asyncio.gather(
        client.incr(name), client.execute_command("QUIT"), client.incr(name),
        return_exceptions=True,
    )  # fmt: skip
    assert all(isinstance(item, exceptions.ConnectionError) for item in results)
    assert await client.incr(name) == 2


async def test_a_caller_that_leaves_disturbs_nobody(store: Store, client: GatheringClient) -> None:
    name = store.keys.name("counter")
    calls = [asyncio.create_task(client.incr(name)) for _ in range(10)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(item, asyncio.CancelledError) for item in results] == [True, False] * 5
    assert results[1::2] == [2, 4, 6, 8, 10]


async def test_a_script_runs_as_on_any_client(store: Store, client: GatheringClient) -> None:
    plain, gathered = (Script(c, store.keys, "submit") for c in (store.client, client))
    call = (store.keys.name("submit", "t:k"), "check", "B1", 1, 60, b"")
    assert await plain(*call) == await gathered(*call)
