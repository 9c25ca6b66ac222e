"""What workers die with again and again: halved, dead as one message, or not even opened."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest

from dispatcher.engine.entry import HeldEntry
from dispatcher.engine.intake import SHUT_RECLAIMS
from dispatcher.engine.runtime import write_limits
from dispatcher.messages import Content, Envelope, Row, decode_body
from dispatcher.policy.routing import Limits
from dispatcher.store.claims import POISON, SUSPECT, ClaimedEntry
from dispatcher.store.queue import Move, Settlement
from tests.campaign import Campaign, numbers, until, webhook

Start = Callable[[str], Campaign]
LANE = "p/sms/a"
QUICK = '[retry]\nbase = "1ms"\nmax = "2ms"\n'


def held(count: int, ambiguous: int) -> HeldEntry:
    claimed = ClaimedEntry(f"{LANE}:normal:~", "1-0", 0, "", count, 2, "B", 9, b"", ambiguous, 4)
    envelope = Envelope("B", "default", "sms", "normal", "SHOP", 0, 9, Content(text="Hi"))
    rows = [Row(at, f"+49151{at:08}", hop=3) for at in range(count)]

    def compose(rows: object) -> None:
        raise AssertionError(rows)

    return HeldEntry(claimed, LANE, "normal", envelope, rows, compose, 0, count)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "ambiguous", "expected"),
    [(7, 5, [(4, 4), (3, 1)]), (6, 0, [(3, 0), (3, 0)]), (2, 2, [(1, 1), (1, 1)])],
)
def test_halves_are_put_back_as_they_came(
    count: int, ambiguous: int, expected: list[tuple[int, int]]
) -> None:
    entry = held(count, ambiguous)
    before = list(entry.rows)
    entry.halve(SUSPECT)
    assert [(move.count, move.ambiguous) for move in entry.moves] == expected
    assert [row for move in entry.moves for row in decode_body(move.body)[1]] == before
    assert {(m.wait_us, m.cost, m.expires_us, m.reclaims) for m in entry.moves} == {(0, 2, 9, 3)}
    assert not entry.waits()
    settlement = entry.settlement()
    assert (settlement.done, settlement.outcomes) == (True, [])


async def put_back(run: Campaign, reclaims: int, ambiguous: int, body: bytes | None = None) -> str:
    """The one entry that waits, as so many dead workers leave it; its lane."""
    queue = run.store.queue
    await write_limits(run.store, Limits(run.config, {"hook": 1}), ["hook"])
    await queue.heartbeat("w", first=True)
    (grant,) = (await queue.claim("hook", "w", 100, 10, [])).grants
    (entry,) = grant.entries
    lane, class_, _ = entry.queue.rsplit(":", 2)
    move = Move(
        0, lane, class_, entry.count, 1, 0, body or entry.body, ambiguous, reclaims=reclaims
    )
    await queue.settle(
        "w",
        1,
        [Settlement(entry.queue, entry.id, entry.batch, True, [], [move], {})],
        status_seconds=60,
    )
    await queue.leave("w")
    return lane


async def test_an_entry_is_halved_and_sent(
    campaign: Start, simulator_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = campaign(webhook(simulator_url) + QUICK)
    batch = await run.submit(numbers(6))
    await put_back(run, POISON, 2)
    async with run.work():
        assert await run.finished(batch) == {"sent": 6}
    run.assert_each_arrived_once((batch, 6))
    assert caplog.text.count("halved an entry that 4 workers died with") == 1
    attempts = {index: record.attempts for index, (_, record) in (await run.records(batch)).items()}
    assert attempts == {0: 2, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1}


@pytest.mark.parametrize("rule", ["resend", "hold"])
async def test_one_message_is_dead(campaign: Start, simulator_url: str, rule: str) -> None:
    run = campaign(webhook(simulator_url, on_unknown=rule))
    batch = await run.submit(numbers(1))
    await put_back(run, POISON, 1)
    async with run.work():
        assert await run.finished(batch) == {"dead": 1}
    ((name, letter),) = (await run.letters()).items()
    assert (name, letter.code, letter.status) == (f"{batch}-0", "poison", "dead")
    assert (await run.view(batch)).codes == {"dead:poison": 1}
    assert run.arrived() == {}


async def test_what_cannot_be_opened_is_tried_again_much_later(
    campaign: Start, simulator_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = campaign(webhook(simulator_url))
    batch = await run.submit(numbers(2))
    lane = await put_back(run, SHUT_RECLAIMS, 0, b"\xc1")
    items = run.store.keys.name("items")

    async def aside() -> bool:
        return bool(await run.store.client.hlen(items))

    async with run.work():
        await until(aside)
    assert f"8 workers ended when they opened an entry of batch {batch}" in caplog.text
    (packed,) = await run.store.client.hvals(items)
    item = msgpack.unpackb(packed, raw=True)
    assert (item[0], item[2], item[6], item[8]) == (lane.encode(), 2, b"\xc1", 7)
    ((_, due),) = await run.store.client.zrange(
        run.store.keys.name("scheduled"), 0, -1, withscores=True
    )
    assert due > await run.store.inspector.now_us() + 3_000_000_000
