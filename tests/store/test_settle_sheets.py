"""Messages sent at their first attempt are written together, as sheets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.engine.entry import HeldEntry
from dispatcher.exchange import Accepted
from dispatcher.messages import Content, Envelope, Row, Status, decode_sheet
from dispatcher.store.claims import ClaimedEntry
from dispatcher.store.keys import STATUS_BLOCK
from dispatcher.store.queue import Settlement
from tests.store.cell import LANE, Cell, outcome, rows_of


def held(claimed: ClaimedEntry, rows: list[Row]) -> HeldEntry:
    envelope = Envelope(claimed.batch, "default", "sms", "bulk", "SHOP", 0, 0, Content(text="Hi"))
    return HeldEntry(claimed, LANE, "bulk", envelope, rows, None, budget=len(rows), left=len(rows))  # type: ignore[arg-type]


async def test_what_was_sent_is_counted_and_can_be_read_one_by_one(cell: Cell) -> None:
    await cell.enqueue(40)
    claimed = (await cell.claim_entries("w1"))[0]
    entry = held(claimed, rows_of(claimed))
    for row in reversed(entry.rows):
        entry.sent([row], [Accepted(f"SM{row.index}")], 7_000_000)
    await cell.settle("w1", entry.settlement())
    counts = await cell.counts()
    assert (counts["sent"], counts["left"]) == (40, 0)
    records = await cell.store.inspector.records(cell.batch, range(45))
    assert sorted(records) == list(range(40))
    for index, (status, hop, record) in records.items():
        assert (status, hop, record.lane, record.attempts) == (Status.SENT, 0, LANE, 1)
        assert (record.provider_id, record.at_ms) == (f"SM{index}", 7000)
        assert record.to == entry.rows[index].to
    (lane,) = await cell.store.inspector.lanes([LANE])
    assert lane.sent == 40


async def test_a_field_of_its_own_says_more_than_the_sheet(cell: Cell) -> None:
    await cell.enqueue(3)
    claimed = (await cell.claim_entries("w1"))[0]
    entry = held(claimed, rows_of(claimed))
    entry.sent([entry.rows[0]], [Accepted()], 1)
    entry.sent([entry.rows[2]], [Accepted()], 1)
    await cell.settle("w1", entry.settlement())
    known = [outcome(entry.rows[1], Status.DEAD), outcome(entry.rows[2], Status.DELIVERED)]
    rest = Settlement(claimed.queue, claimed.id, cell.batch, True, known, [], {})
    await cell.settle("w1", rest)
    records = await cell.store.inspector.records(cell.batch, [0, 1, 2])
    assert [records[at][0] for at in range(3)] == [Status.SENT, Status.DEAD, Status.DELIVERED]


async def test_a_sheet_of_an_entry_that_went_to_another_worker_is_not_written(cell: Cell) -> None:
    await cell.enqueue(5)
    claimed = (await cell.claim_entries("w1"))[0]
    entry = held(claimed, rows_of(claimed))
    for row in entry.rows:
        entry.sent([row], [Accepted()], 1)
    await cell.worker("w2")
    number = 1
    taken = entry.settlement()
    assert await cell.queue.settle("w2", number, [taken], status_seconds=60) == [False]
    assert await cell.store.inspector.records(cell.batch, range(5)) == {}
    assert (await cell.counts())["left"] == 5


@given(st.lists(st.integers(0, 5 * STATUS_BLOCK), unique=True, max_size=200))
def test_sheets_hold_every_message_once_and_keep_to_their_block(indexes: list[int]) -> None:
    claimed = ClaimedEntry("q", "1-0", len(indexes), "", len(indexes), 1, "B", 0, b"", None, 0)
    rows = [Row(index, f"+49{index:09d}", ref=f"r{index}") for index in indexes]
    entry = held(claimed, rows)
    for row in rows:
        entry.sent([row], [Accepted(f"id{row.index}")], 5_000)
    found = {}
    sheets = entry.settlement().sheets
    for sheet in sheets:
        assert sheet.first // STATUS_BLOCK == sheet.last // STATUS_BLOCK
        members = dict(decode_sheet(sheet.value))
        assert sheet.messages == len(members)
        assert (min(members), max(members)) == (sheet.first, sheet.last)
        assert not members.keys() & found.keys()
        found |= members
    assert {index: record.provider_id for index, record in found.items()} == {
        index: f"id{index}" for index in indexes
    }
    assert len(sheets) == len({index // STATUS_BLOCK for index in indexes})


def test_a_message_that_was_put_back_gets_a_field_of_its_own() -> None:
    claimed = ClaimedEntry(f"{LANE}:bulk:~", "1-0", 1, "", 1, 1, "B", 0, b"", None, 0)
    entry = held(claimed, [Row(1, "+4922222222", hop=2, attempts=1)])
    entry.sent(entry.rows, [Accepted("SM1")], 5_000)
    settled = entry.settlement()
    assert not settled.sheets
    (own,) = settled.outcomes
    assert (own.index, own.hop, own.status) == (1, 2, Status.SENT)
