"""What a worker holds of a lane, beside plain models: each row comes out once, in order, at a slot
of its own; requests hold what they may."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NoReturn

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.engine.entry import HeldEntry
from dispatcher.engine.lane import LaneRun, Send, SlotRun, messages
from dispatcher.messages import Content, Envelope, Row, Status, decode_body
from dispatcher.store.claims import ClaimedEntry

LANE = "p/sms/a"
TICK = 1 / 1024
"""Times of the model are multiples of it, so that their sums are exact."""
SLACK = 51 * TICK


def compose(rows: Sequence[Row]) -> NoReturn:
    raise AssertionError(f"{len(rows)} messages were composed")


def held(
    first: int,
    count: int,
    budget: int | None = None,
    *,
    class_: str = "normal",
    skip: Iterable[int] = (),
    text: str = "Hi",
) -> HeldEntry:
    """An entry of `count` messages numbered from `first`; `skip` are places in it."""
    queue = f"{LANE}:{class_}:default"
    claimed = ClaimedEntry(queue, f"{first}-0", count, "", count, 1, "B", 0, b"", None, 0)
    envelope = Envelope("B", "default", "sms", class_, "SHOP", 0, 0, Content(text=text))
    rows = [Row(first + at, f"+49151{first + at:08}") for at in range(count)]
    places = frozenset(skip)
    budget = count if budget is None else budget
    left = count - len(places)
    entry = HeldEntry(
        claimed, LANE, class_, envelope, rows, compose, budget=budget, left=left, skip=places
    )
    while entry.cursor in places:  # as it comes from the intake
        entry.cursor += 1
    return entry


def lane_of(*entries: HeldEntry, batch: int = 1, whole: bool = False) -> LaneRun:
    lane = LaneRun(LANE, batch, whole=whole)
    for entry in entries:
        lane.entries[entry.class_].append(entry)
    return lane


def indexes(rows: Sequence[Row]) -> list[int]:
    return [row.index for row in rows]


def given_back(entry: HeldEntry) -> list[int]:
    return [row.index for move in entry.moves for row in decode_body(move.body)[1]]


PLACES = st.sets(st.integers(0, 19))
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "untake", "book"]), st.integers(1, 7)), max_size=30
)


@given(count=st.integers(1, 20), budget=st.integers(0, 20), skip=PLACES, steps=STEPS)
def test_each_row_of_an_entry_comes_out_once(
    count: int, budget: int, skip: set[int], steps: list[tuple[str, int]]
) -> None:
    skip = {at for at in skip if at < count}
    entry = held(0, count, min(budget, count), skip=skip)
    waiting = [at for at in range(count) if at not in skip]
    again: list[int] = []
    out: list[Row] = []
    for step, number in steps:
        if step == "take":
            rows = entry.take(number)
            assert len(rows) <= number
            allowed = [at for at in waiting if at < entry.budget]
            expected = again[:number] or allowed[:number]
            assert indexes(rows) == expected
            again = again[len(rows) :] if again else again
            waiting = [at for at in waiting if at not in expected]
            out += rows
        elif step == "untake" and out:
            out, vain = out[:-number], out[-number:]
            entry.again += vain
            again += indexes(vain)
        elif step == "book":
            entry.budget = min(count, max(entry.budget, entry.cursor) + number)
        assert entry.unsent() == len(waiting) + len(again)
        assert entry.waits() or entry.unsent() == 0
    rest = again + waiting
    assert entry.give_back(0) == len(rest)
    assert given_back(entry) == rest
    assert not entry.waits()
    assert entry.left == len(out)
    assert sorted(indexes(out) + rest) == [at for at in range(count) if at not in skip]


def test_rows_given_back_are_queued_with_their_next_hop() -> None:
    entry = held(0, 5)
    entry.take(2)
    entry.give_back(7_000)
    assert [(out.index, out.hop, out.status) for out in entry.outcomes] == [
        (index, 1, Status.QUEUED) for index in (2, 3, 4)
    ]
    (move,) = entry.moves
    assert (move.wait_us, move.count, move.lane) == (0, 3, LANE)


def test_part_of_an_entry_is_given_back_from_a_place_on() -> None:
    entry = held(0, 6, skip={4})
    assert entry.give_back(0, 3) == 2
    assert given_back(entry) == [3, 5]
    assert indexes(entry.take(10)) == [0, 1, 2]


RUNS = st.lists(
    st.tuples(
        st.integers(0, 200),  # ticks until its first slot
        st.sampled_from((0, 1, 10, 40)),  # ticks from slot to slot
        st.integers(1, 12),
    ),
    min_size=1,
    max_size=5,
)
LOOKS = st.lists(st.integers(1, 120), min_size=1, max_size=30)


def use(lane: LaneRun, now: float) -> list[tuple[int, float, float | None]]:
    """Send what has a slot now: (message, until when it may be written, now) of each."""
    sent = []
    while (at := lane.due(now)) is not None and at <= now:
        ripe = lane.ripe(now)
        assert 1 <= ripe <= lane.slots_left()
        send = lane.take(ripe)
        if send is None:
            lane.use_slots(ripe)
            continue
        assert len(send.rows) <= ripe
        write_by = lane.write_by()
        lane.use_slots(len(send.rows))
        sent += [(row.index, now, write_by) for row in send.rows]
    return sent


@given(runs=RUNS, looks=LOOKS, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_messages_go_in_order_and_only_at_slots(
    runs: list[tuple[int, int, int]], looks: list[int], sizes: list[int]
) -> None:
    entries = [held(sum(sizes[:at]), size) for at, size in enumerate(sizes)]
    lane = lane_of(*entries)
    slots: list[float] = []
    first = 0.0
    for wait, spacing, count in runs:
        first += wait * TICK
        lane.grant(SlotRun(first, spacing * TICK, count, SLACK), 0.0)
        slots += [first + number * spacing * TICK for number in range(count)]
        first = slots[-1]
    now, free, sent = 0.0, sorted(slots), []
    for look in looks:
        now += look * TICK
        some = use(lane, now)
        free = [slot for slot in free if slot + SLACK >= now]  # the others have lapsed
        usable = [slot for slot in free if slot <= now]
        assert len(some) <= len(usable)
        assert all(write_by is not None and write_by >= now for _, _, write_by in some)
        free = free[len(usable) :]
        sent += [index for index, _, _ in some]
        due = lane.due(now)
        assert due is None or due > now
    assert sent == list(range(len(sent)))
    assert lane.unsent() == sum(sizes) - len(sent)
    assert lane.slots_left() == len([slot for slot in free if slot + SLACK >= now])


def test_a_backlog_uses_every_slot_that_is_looked_at_in_time() -> None:
    lane = lane_of(held(0, 100))
    lane.grant(SlotRun(1.0, 0.01, 100, SLACK), 1.0)
    times = [now for look in range(60) for _, now, _ in use(lane, 1.0 + look * 0.02)]
    assert len(times) == 100
    assert all(sent - (1.0 + number * 0.01) < 0.02 + 1e-9 for number, sent in enumerate(times))


def test_slots_without_a_rate_never_lapse() -> None:
    lane = lane_of(held(0, 3))
    lane.grant(SlotRun(1.0, 0.0, 3, None), 1.0)
    assert [write_by for _, _, write_by in use(lane, 1e6)] == [None] * 3
    assert not lane.slots_left()


def test_a_slot_goes_to_the_most_urgent_message() -> None:
    lane = lane_of(held(0, 2, class_="bulk"), held(10, 2), held(20, 2, class_="urgent"))
    lane.grant(SlotRun(0.0, 0.01, 6, SLACK), 0.0)
    assert indexes(taken(lane.take(1, urgent_only=True))) == [20]
    order = [index for look in range(5) for index, _, _ in use(lane, look * 0.01)]
    assert order == [21, 10, 11, 0, 1]
    assert lane.take(1, urgent_only=True) is None


def taken(send: Send | None) -> Sequence[Row]:
    assert send is not None
    return send.rows


def test_a_message_taken_in_vain_goes_before_others_and_asks_for_a_slot() -> None:
    entry, other = held(0, 2), held(10, 5)
    lane = lane_of(entry, other)
    lane.grant(SlotRun(0.0, 0.01, 2, SLACK), 0.0)
    send = lane.take(2)
    assert send is not None
    lane.use_slots(2)
    lane.take(1)  # the first entry, being empty, leaves the lane
    lane.untake(send)
    assert (
        dict(lane.wants()) == {entry.claimed.field: 2, other.claimed.field: 4}
        or sum(count for _, count in lane.wants()) == 6
    )
    assert indexes(taken(lane.take(5))) == [0, 1]
    assert indexes(taken(lane.take(5))) == [11, 12, 13, 14]


def test_a_lane_is_idle_when_it_holds_nothing() -> None:
    entry = held(0, 1)
    lane = lane_of(entry, batch=2)
    assert not lane.idle()
    lane.grant(SlotRun(0.0, 0.01, 1, SLACK), 0.0)
    send = lane.take(1)
    assert send is not None
    lane.use_slots(1)
    assert lane.due(0.0) is None
    lane.collect(send, 0.0)
    assert not lane.idle()
    assert lane.ready(0.0, 0.0) == [send]
    assert lane.idle()
    lane.untake(send)
    assert not lane.idle()


def test_a_lane_whose_slots_lapse_asks_for_fewer_until_it_keeps_up() -> None:
    lane = lane_of(held(0, 1000))
    for grant in range(4):
        lane.grant(SlotRun(grant * 1.0, 0.01, 10, SLACK), grant * 1.0)
        assert lane.due(grant * 1.0 + 0.9) is None
    assert lane.most() == 2
    assert not lane.idle()
    for grant in range(10, 12):
        lane.grant(SlotRun(grant * 1.0, 0.0, 2, SLACK), grant * 1.0)
        assert len(use(lane, grant * 1.0)) == 2
    assert lane.most() == 0


PIECES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.booleans()), min_size=1, max_size=20
)


@given(pieces=PIECES, batch=st.integers(2, 6))
def test_requests_share_an_envelope_and_are_never_too_large(
    pieces: list[tuple[str, int, bool]], batch: int
) -> None:
    lane, first = lane_of(batch=batch), 0
    out: list[list[Send]] = []
    for text, count, look in pieces:
        entry = held(first, count, text=text)
        first += count
        lane.collect(Send(entry, entry.take(count)), 0.0)
        while look and (request := lane.ready(0.0, 1.0)) is not None:
            out.append(request)
    while (request := lane.ready(2.0, 1.0)) is not None:
        out.append(request)
    for request in out:
        assert 1 <= messages(request) <= batch
        assert len({send.entry.envelope.content.text for send in request}) == 1
    for before, after in pairwise(out):
        same = before[-1].entry.envelope == after[0].entry.envelope
        assert not same or messages(before) == batch
    assert [row.index for request in out for send in request for row in send.rows] == list(
        range(first)
    )
    assert lane.collected() == 0


def test_a_request_that_is_not_full_waits_its_time() -> None:
    lane = lane_of(batch=4)
    lane.collect(Send(entry := held(0, 3), entry.take(3)), 1.0)
    assert lane.ready(1.4, 0.5) is None
    assert lane.ready_at(0.5) == 1.5
    assert messages(lane.ready(1.5, 0.5) or ()) == 3
    lane.collect(Send(urgent := held(9, 1, class_="urgent"), urgent.take(1)), 2.0)
    assert messages(lane.ready(2.0, 0.5) or ()) == 1


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20), batch=st.integers(2, 5))
def test_where_requests_count_each_uses_the_slots_of_a_full_one(
    sizes: list[int], batch: int
) -> None:
    lane, used, out = lane_of(batch=batch, whole=True), 0, 0
    lane.grant(SlotRun(0.0, 0.0, 10_000, None), 0.0)
    for number, size in enumerate(sizes):
        entry = held(number * 10, size, text=str(number))
        lane.collect(Send(entry, entry.take(size)), 0.0)
        lane.use_slots(size)
        used += size
        while lane.ready(9.0, 0.0) is not None:
            out += 1
        assert out * batch <= used
        assert not lane.collected() or used < (out + 1) * batch
