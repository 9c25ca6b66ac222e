"""Dead letters sent again or forgotten: each message is in one place, and counted there; running a
script twice changes nothing more."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from dispatcher.engine.letters import Replay, Selection, drop, newest
from dispatcher.messages import Record, Status, encode_record
from dispatcher.store.letters import CellLetters, Letters
from dispatcher.store.queue import Letter, Outcome, Settlement
from dispatcher.store.resolving import Resolver, Said
from tests.store.cell import LANE, Cell, action, body_of, entries_of, rows_of

DAY = 86_400.0


@pytest.fixture
def letters(cell: Cell) -> Letters:
    return Letters(cell.client, cell.keys)


async def die(
    cell: Cell, count: int, status: Status = Status.DEAD, code: str = "30008", expires_us: int = 0
) -> None:
    """Messages that end as dead letters."""
    await cell.enqueue(count)
    for entry in await cell.claim_entries("w1"):
        outcomes = []
        for row in rows_of(entry):
            record = Record(0, LANE, row.to, code=code, attempts=1)
            value = encode_record(status, row.hop, record)
            letter = Letter(LANE, "normal", status.word, code, "gone", None, (), expires_us,
                            body_of(cell.batch, [row]), 2)  # fmt: skip
            packed = msgspec.msgpack.encode(letter)
            outcomes.append(Outcome(row.index, row.hop, status, value, packed))
        counters = {f"dead:{code}": len(outcomes)} if status is Status.DEAD else {}
        settled = Settlement(entry.queue, entry.id, entry.batch, True, outcomes, [], counters)
        assert await cell.settle("w1", settled) == [True]


async def replay(
    cell: Cell, letters: Letters, interval_us: float = 0, dry_run: bool = False, **given: str
) -> tuple[int, dict[str, int]]:
    now_us = await cell.store.inspector.now_us()
    replay = Replay(letters, now_us, interval_us, DAY)
    done = await replay.run(Selection(**given), action("dead replay", "all"), dry_run)  # type: ignore[arg-type]
    return done.messages, dict(done.left)


async def test_a_replayed_message_is_sent(cell: Cell, letters: Letters) -> None:
    await die(cell, 3)
    await die(cell, 2, Status.UNKNOWN, "timeout")
    assert await replay(cell, letters) == (5, {})
    assert set((await cell.check()).values()) == {"queue"}
    assert (await cell.counts()).get("dead:30008", 0) == 0
    assert await letters.count() == 0
    known = await cell.store.inspector.records(cell.batch, range(5))
    assert {record.history[-1].code for _, _, record in known.values()} == {"replayed"}
    claimed = await cell.claim_entries("w1")
    assert {entry.cost for entry in claimed} == {2}
    assert await cell.finish("w1", claimed) == [True] * 5
    assert set((await cell.check()).values()) == {"sent"}


async def test_one_that_dies_again_is_a_letter_again(cell: Cell, letters: Letters) -> None:
    await die(cell, 1)
    await replay(cell, letters)
    (entry,) = await cell.claim_entries("w1")
    (row,) = rows_of(entry)
    late = encode_record(Status.DELIVERED, 0, Record(0, LANE, row.to))
    old = Outcome(0, 0, Status.DELIVERED, late)
    await cell.settle("w1", Settlement(entry.queue, entry.id, cell.batch, False, [old], [], {}))
    value = encode_record(Status.DEAD, row.hop, Record(0, LANE, row.to))
    again = Outcome(0, row.hop, Status.DEAD, value, b"letter")
    await cell.settle("w1", Settlement(entry.queue, entry.id, cell.batch, True, [again], [], {}))
    assert await cell.check() == {0: "dead"}
    assert await letters.count() == 1


async def test_a_rate_spreads_them(cell: Cell, letters: Letters) -> None:
    await die(cell, 5)
    before = await cell.store.inspector.now_us()
    assert await replay(cell, letters, 60_000_000) == (5, {})
    due = await cell.client.zrange(cell.keys.name("scheduled"), 0, -1, withscores=True)
    times = [time for _, time in due]
    steps = [b - a for a, b in pairwise(times)]
    assert steps == [60_000_000] * (len(times) - 1)
    assert len(times) >= 4
    assert times[-1] - before >= 4 * 60_000_000
    await cell.pass_time(121)
    assert len(entries_of(await cell.claim("w1"))) == 3
    await cell.pass_time(200)
    assert len(entries_of(await cell.claim("w1"))) == 2


async def test_a_dry_run_changes_nothing(cell: Cell, letters: Letters) -> None:
    await die(cell, 3)
    before = await dump(cell)
    assert await replay(cell, letters, dry_run=True) == (3, {})
    done = await drop(letters, Selection(), action("dead drop", "all"), dry_run=True)
    assert done.by == {("p", "30008"): 3}
    assert await dump(cell) == before


async def dump(cell: Cell) -> dict[bytes, bytes]:
    names = [name async for name in cell.client.scan_iter(f"{cell.keys.prefix}:*")]
    return {name: await cell.client.dump(name) for name in names}


async def test_what_is_meant(cell: Cell, letters: Letters) -> None:
    await die(cell, 3)
    await die(cell, 2, Status.UNKNOWN, "timeout")
    meant = {
        3: [Selection(code="30008"), Selection(status="dead")],
        2: [Selection(code="unknown"), Selection(code="timeout"), Selection(status="unknown")],
        5: [Selection(), Selection(provider="p"), Selection(channel="sms"), Selection(since_us=1),
            Selection(tenant="default")],
        0: [Selection(provider="q"), Selection(channel="email"), Selection(tenant="acme"),
            Selection(since_us=2**60), Selection(code="30008", status="unknown")],
        1: [Selection((f"{cell.batch}-1",)), Selection((f"{cell.batch}-1", "none-7"))],
    }  # fmt: skip
    for count, selections in meant.items():
        for selection in selections:
            assert len(await newest(letters, selection, 10)) == count, selection
            done = await drop(letters, selection, action("dead drop", ""), dry_run=True)
            assert done.messages == count
    assert await replay(cell, letters, code="unknown") == (2, {})
    assert await letters.count() == 3
    assert list((await cell.check()).values()).count("dead") == 3


async def test_more_than_a_page(cell: Cell, letters: Letters) -> None:
    await die(cell, 450)
    await die(cell, 50, code="21211")
    shown = await newest(letters, Selection(code="30008"), 1000)
    assert len({found.message for found in shown}) == 450
    assert shown == sorted(shown, key=lambda found: -found.at_us)
    done = await drop(letters, Selection(code="30008"), action("dead drop", ""), dry_run=False)
    assert done.messages == 450
    assert await letters.count() == 50
    assert await replay(cell, letters) == (50, {})
    assert await letters.count() == 0


async def test_dropped_letters_leave_their_status(cell: Cell, letters: Letters) -> None:
    await die(cell, 2)
    done = await drop(letters, Selection(), action("dead drop", "all"), dry_run=False)
    assert done.messages == 2
    assert await letters.count() == 0
    assert set((await cell.check()).values()) == {"dead"}
    (kept,) = await cell.store.inspector.actions()
    assert (kept.what, kept.affected) == ("dead drop", 2)


async def test_what_has_expired_stays(cell: Cell, letters: Letters) -> None:
    await die(cell, 2, expires_us=await cell.store.inspector.now_us() + 3600 * 10**6)
    await die(cell, 1, expires_us=1)
    assert await replay(cell, letters, 1800 * 1e6) == (2, {"expired": 1})
    assert await letters.count() == 1


async def test_what_a_receipt_has_told_of_is_not_sent_again(cell: Cell, letters: Letters) -> None:
    await die(cell, 1, Status.UNKNOWN, "timeout")
    value = encode_record(Status.DELIVERED, 0, Record(0, LANE, "+49"))
    await cell.client.hset(cell.keys.status(cell.batch, 0), "0", value)
    await replay(cell, letters)
    assert await letters.count() == 0
    assert await cell.claim_entries("w1") == []


async def test_what_is_told_to_be_dead_meanwhile_keeps_its_letter(
    cell: Cell, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    await die(cell, 1, Status.UNKNOWN, "timeout")
    own = CellLetters.replay

    async def resolve_first(self: CellLetters, *args: Any) -> int:
        said = [Said(f"{cell.batch}-0", Status.DEAD)]
        await Resolver(cell.client, cell.keys).resolve(said, 3600, action("dead resolve", "all"))
        return await own(self, *args)

    monkeypatch.setattr(CellLetters, "replay", resolve_first)
    await replay(cell, letters)
    assert await letters.count() == 1
    assert await cell.check() == {0: "dead"}
    await replay(cell, letters)
    assert await letters.count() == 0
    assert await cell.check() == {0: "queue"}


async def test_a_forgotten_batch_is_known_again(cell: Cell, letters: Letters) -> None:
    await die(cell, 3)
    await cell.client.delete(cell.keys.name("batch", cell.batch), cell.keys.status(cell.batch, 0))
    assert await replay(cell, letters) == (3, {})
    view = await cell.store.inspector.batch(cell.batch)
    assert view is not None
    assert (view.total, view.counts["queued"], view.tenant, view.channel) == (
        3, 3, "default", "sms",
    )  # fmt: skip
    await cell.finish("w1", await cell.claim_entries("w1"))
    assert set((await cell.check()).values()) == {"sent"}
