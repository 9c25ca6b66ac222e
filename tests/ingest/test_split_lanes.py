"""Lanes of senders and tenants, entries of one segment count, and who may submit what."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from dispatcher.engine.cutting import LANES_KNOWN
from dispatcher.engine.ingest import OpenBatch, Part, Recipient
from dispatcher.errors import UsageError
from dispatcher.messages import Content, decode_body
from dispatcher.policy.routing import pick_sender
from dispatcher.policy.segments import segments

Batches = Callable[..., OpenBatch]

HOOK = '[providers.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n'
OTHER = HOOK.replace("hook]", "other]")
POOL = [f"+4930{number:05d}" for number in range(300)]
SHOP = f"[senders.shop]\nhook = {msgspec.json.encode(POOL).decode()}\n"
EACH = '[[limits]]\nname = "numbers"\neach = "sender"\nrate = "1/s"\n'
PARTS = '[[limits]]\nname = "parts"\nunit = "segment"\nrate = "100/s"\n'
LONG = "x" * 100


def people(count: int, prefix: str = "+491510", name: str = "Ann") -> list[Recipient]:
    return [Recipient(index, f"{prefix}{index:07d}", (name,)) for index in range(count)]


def recipients(part: Part) -> dict[str, list[str]]:
    """Who is in which lane."""
    found: dict[str, list[str]] = {}
    for entry in part.entries:
        found.setdefault(entry.lane, []).extend(row.to for row in decode_body(entry.body)[1])
    return found


def test_each_message_is_in_the_lane_of_the_sender_its_recipient_sees(batch: Batches) -> None:
    part = batch(HOOK + SHOP + EACH, sender="shop").part(0, people(2000))
    found = recipients(part)
    for lane, numbers in found.items():
        sender = lane.removeprefix("hook/sms/de/sender=")
        assert {pick_sender(POOL, to) for to in numbers} == {sender}
    assert sum(map(len, found.values())) == 2000
    assert len(found) > 290
    assert {(new.lane, new.limits) for new in part.lanes} == {
        (lane, ("provider:hook", f"numbers/{lane.rpartition('=')[2]}")) for lane in found
    }
    assert {entry.count for entry in part.entries} == {1}


def test_a_pool_without_a_limit_shares_its_lane(batch: Batches) -> None:
    part = batch(HOOK + SHOP, sender="shop").part(0, people(600))
    assert [(entry.lane, entry.count) for entry in part.entries] == [
        ("hook/sms/de", 500), ("hook/sms/de", 100),
    ]  # fmt: skip


def test_a_literal_sender_has_one_lane(batch: Batches) -> None:
    part = batch(HOOK + EACH, sender="My Shop/2").part(0, people(3))
    assert {entry.lane for entry in part.entries} == {"hook/sms/de/sender=My%20Shop%2F2"}
    assert part.lanes[0].limits == ("provider:hook", "numbers/My%20Shop%2F2")


def test_lanes_of_a_large_pool_over_many_carriers_are_remembered() -> None:
    assert LANES_KNOWN >= 300 * 50


def test_only_messages_of_a_tenant_with_a_rate_leave_the_common_lane(batch: Batches) -> None:
    toml = HOOK + '[tenants.acme]\nrate = "20/s"\n[tenants.globex]\nweight = 3\n'
    part = batch(toml, tenant="acme").part(0, people(4))
    assert [(entry.lane, entry.count) for entry in part.entries] == [
        ("hook/sms/de/tenant=acme", 2), ("hook/sms/de/tenant=acme", 2),
    ]  # fmt: skip
    assert part.lanes[0].limits == ("provider:hook", "tenant:acme")
    part = batch(toml, tenant="globex").part(0, people(4))
    assert [(entry.lane, entry.count) for entry in part.entries] == [("hook/sms/de", 4)]
    assert (part.lanes[0].limits, part.lanes[0].weight) == (("provider:hook",), 3.0)


def test_messages_of_an_entry_have_the_same_segments(batch: Batches) -> None:
    records = [
        Recipient(index, f"+491510{index:07d}", (LONG * (index % 3 * 2),)) for index in range(120)
    ]
    part = batch(HOOK + PARTS).part(0, records)
    assert part.accepted == sum(entry.count for entry in part.entries) == 120
    sizes: dict[int, int] = {}
    for entry in part.entries:
        rows = decode_body(entry.body)[1]
        assert {segments(f"Hi {row.values[0]}") for row in rows} == {entry.cost}
        sizes[entry.cost] = max(sizes.get(entry.cost, 0), len(rows))
    # 100 segments a second: ten in an entry.
    assert sizes == {1: 10, 2: 5, 3: 3}
    assert len(part.lanes) == 1


def test_other_limits_do_not_make_segments_count(batch: Batches) -> None:
    toml = HOOK + PARTS + 'channel = "mms"\n'
    part = batch(toml).part(0, people(3, name=LONG * 4))
    assert [(entry.cost, entry.count) for entry in part.entries] == [(1, 3)]
    part = batch(toml, channel="mms").part(0, people(3, name=LONG * 4))
    assert {entry.cost for entry in part.entries} == {3}


def test_a_push_message_has_no_segments(batch: Batches) -> None:
    part = batch(HOOK + PARTS, channel="push").part(0, [Recipient(0, "token", (LONG * 9,))])
    assert [entry.cost for entry in part.entries] == [1]


def test_segments_count_for_a_provider_that_may_take_over(batch: Batches) -> None:
    toml = HOOK + OTHER + PARTS + 'provider = "other"\n'
    part = batch(toml).part(0, people(3, name=LONG * 4))
    assert [(entry.lane, entry.cost, entry.count) for entry in part.entries] == [
        ("hook/sms/de", 3, 3)
    ]


def test_entries_suit_the_first_day_of_a_ramp(batch: Batches) -> None:
    toml = HOOK + 'rate = "1000/s"\nramp = ["50/s", "200/s"]\n'
    assert batch(toml).part(0, people(20)).entries[0].count == 5


@pytest.mark.parametrize(("class_", "allowed"), [("urgent", True), ("bulk", False)])
def test_a_tenant_submits_its_classes_only(batch: Batches, class_: str, allowed: bool) -> None:
    toml = HOOK + '[tenants.acme]\nclasses = ["urgent", "normal"]\n'
    given = {"class_": class_, "tenant": "acme", "content": Content("Hi")}
    if allowed:
        assert batch(toml, **given).envelope.class_ == class_
        return
    with pytest.raises(UsageError) as error:
        batch(toml, **given)
    assert str(error.value) == "class 'bulk' is not open to tenant acme; allowed: normal, urgent"
