"""How accepted records are cut into entries: their size, their lane, what their bodies hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.config import load
from dispatcher.engine.ingest import Ingest, OpenBatch, Part, Recipient, Submission
from dispatcher.engine.runtime import create_providers
from dispatcher.errors import UsageError
from dispatcher.messages import ENTRY_MESSAGES, Content, Envelope, Row, decode_body, new_ulid

Batches = Callable[..., OpenBatch]

HOOK = '[providers.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n'
TWO = HOOK + (
    'rate = "800/s"\n'
    '[carriers.slow]\nprefixes = ["+491510"]\nrate = "75/s"\n'
    '[carriers.fast]\nprefixes = ["+491511"]\nrate = "1000/s"\n'
    '[[limits]]\nname = "us-only"\ncarrier = "us"\nrate = "0.5/s"\n'
)
PREFIXES = {"slow": "+491510", "fast": "+491511", "us": "+1212555"}


def people(count: int, prefix: str = "+491510") -> list[Recipient]:
    return [Recipient(i, f"{prefix}{i:07d}"[:16], (f"Ann {i}",)) for i in range(count)]


def decoded(part: Part) -> list[tuple[str, Envelope, list[Row]]]:
    bodies = [(entry.lane, *decode_body(entry.body)) for entry in part.entries]
    assert [entry.count for entry in part.entries] == [len(rows) for _, _, rows in bodies]
    return bodies


def sizes(part: Part) -> list[int]:
    return [len(rows) for _, _, rows in decoded(part)]


@pytest.mark.parametrize(
    ("rate", "most"),
    [
        ("1/h", 1), ("5/s", 1), ("20/s", 2), ("100/s", 10), ("4000/min", 7), ("2500/s", 250),
        ("5000/s", 500), ("100000/s", 500),
    ],
)  # fmt: skip
def test_an_entry_holds_what_its_lane_sends_in_100_ms(batch: Batches, rate: str, most: int) -> None:
    part = batch(HOOK + f'rate = "{rate}"\n').part(0, people(1200))
    assert part.accepted == sum(sizes(part)) == 1200
    assert set(sizes(part)[:-1]) == {most}
    assert 1 <= sizes(part)[-1] <= most


def test_without_a_rate_an_entry_is_as_big_as_it_may_be(batch: Batches) -> None:
    assert sizes(batch(HOOK).part(0, people(1200))) == [500, 500, 200]


def test_the_slowest_limit_of_the_lane_counts(batch: Batches) -> None:
    for carrier, most in (("slow", 8), ("fast", 80), ("us", 1)):
        part = batch(TWO).part(0, people(200, PREFIXES[carrier]))
        assert set(sizes(part)[:-1]) == {most}, carrier
        assert {entry.lane for entry in part.entries} == {f"hook/sms/{carrier}"}


def test_lanes_are_given_with_their_limits_and_the_tenants_weight(batch: Batches) -> None:
    opened = batch(TWO + "[tenants.acme]\nweight = 3\n", tenant="acme")
    part = opened.part(0, people(3, PREFIXES["us"]) + people(3, PREFIXES["slow"]))
    assert [(new.lane, new.limits, new.weight) for new in part.lanes] == [
        ("hook/sms/us", ("provider:hook", "us-only"), 3.0),
        ("hook/sms/slow", ("provider:hook", "carrier:slow"), 3.0),
    ]


def test_a_record_may_name_its_carrier(batch: Batches) -> None:
    records = [
        Recipient(0, "+12125550100", ("Ann",), carrier="slow"),
        Recipient(1, "+12125550101", ("Bob",)),
        Recipient(2, "+12125550102", ("Cy",), carrier="my-own.net"),
    ]
    part = batch(TWO).part(0, records)
    assert part.carriers == {"slow": 1, "us": 1, "my-own.net": 1}
    assert [(lane, rows[0].index) for lane, _, rows in decoded(part)] == [
        ("hook/sms/slow", 0), ("hook/sms/us", 1), ("hook/sms/my-own.net", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("carrier", ["a/b", "a:b", "a b", "{a}", "é", "-a", "a\n"])
def test_a_carrier_that_cannot_be_part_of_a_key_is_refused(batch: Batches, carrier: str) -> None:
    part = batch(TWO).part(0, [Recipient(7, "+12125550100", ("Ann",), carrier=carrier)])
    assert (part.accepted, part.entries, part.lanes) == (0, [], [])
    assert [(reject.index, reject.code) for reject in part.rejected] == [(7, "invalid_carrier")]


def test_bodies_say_all_that_is_needed_to_send(batch: Batches) -> None:
    opened = batch(HOOK, ttl=60.0, send_at_us=5_000_000, class_="urgent", tenant="acme")
    part = opened.part(0, [Recipient(3, "+49 (151) 1234-5678", ("Ann",), "order-3")])
    [(lane, envelope, rows)] = decoded(part)
    assert lane == "hook/sms/de"
    assert rows == [Row(3, "+4915112345678", ("Ann",), "order-3")]
    assert (envelope.batch, envelope.tenant) == (opened.envelope.batch, "acme")
    assert (envelope.class_, envelope.sender, envelope.columns) == ("urgent", "SHOP", ("name",))
    assert (envelope.accepted_us, envelope.expires_us) == (5_000_000, 65_000_000)
    assert envelope.providers == ("hook",)
    [entry] = part.entries
    assert (entry.due_us, entry.expires_us, entry.class_) == (5_000_000, 65_000_000, "urgent")


def test_dedupe_counts_only_who_was_accepted(batch: Batches) -> None:
    opened = batch(HOOK, dedupe=True)
    ann = "+4915112345678"
    first = opened.part(0, [Recipient(0, ann, (None,)), Recipient(1, ann, ("Ann",))])
    again = opened.part(2, [Recipient(2, "+49 151 12345678", ("Ann",))])
    assert (first.accepted, first.duplicates, len(first.rejected)) == (1, 0, 1)
    assert (again.accepted, again.duplicates, again.entries) == (0, 1, [])


def test_the_check_of_a_part_knows_every_record(batch: Batches) -> None:
    records = people(50)
    check = batch(HOOK).part(0, records).check
    assert batch(HOOK).part(0, records).check == check
    for other in (
        Recipient(7, records[7].to, ("Bob",)),
        Recipient(7, "+4915100000000", records[7].values),
        Recipient(7, records[7].to, records[7].values, "ref"),
        Recipient(7, records[7].to, records[7].values, None, "slow"),
    ):
        changed = [*records[:7], other, *records[8:]]
        assert batch(HOOK).part(0, changed).check != check
    assert batch(HOOK).part(0, records[1:]).check != check


def test_the_fingerprint_knows_every_option() -> None:
    first = Submission("sms", "SHOP", Content("Hi"))
    assert first.fingerprint() == replace(first).fingerprint()
    changes: Sequence[dict[str, object]] = (
        {"channel": "mms"}, {"sender": "SALE"}, {"content": Content("Ho")}, {"class_": "bulk"},
        {"ttl": 60.0}, {"send_at_us": 1}, {"tenant": "acme"}, {"campaign": "x"}, {"dedupe": True},
    )  # fmt: skip
    prints = {replace(first, **change).fingerprint() for change in changes}  # type: ignore[arg-type]
    assert len(prints | {first.fingerprint()}) == len(changes) + 1


@pytest.mark.parametrize("tenant", ["~", "a:b", "", "a b", "{x}"])
def test_a_tenant_that_cannot_be_part_of_a_key_is_refused(batch: Batches, tenant: str) -> None:
    with pytest.raises(UsageError, match="tenant"):
        batch(HOOK, tenant=tenant)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Ingest:
    path = tmp_path_factory.mktemp("two") / "dispatcher.toml"
    path.write_text(TWO)
    config = load(path, {})
    return Ingest(config, create_providers(config))


RECORDS = st.lists(
    st.tuples(
        st.sampled_from(["+491510", "+491511", "+1212555", "x"]),
        st.integers(0, 9),
        st.sampled_from([None, None, "slow", "own"]),
        st.sampled_from(["Ann", "", None]),
    ),
    max_size=1200,
)


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.integers(0, 10**6), st.booleans())
def test_every_accepted_record_is_in_exactly_one_entry(
    two: Ingest, records: list[tuple[str, int, str | None, str | None]], first: int, dedupe: bool
) -> None:
    recipients = [
        Recipient(first + at, f"{prefix}000{digit}", (name,), carrier=carrier)
        for at, (prefix, digit, carrier, name) in enumerate(records)
    ]
    submission = Submission("sms", "SHOP", Content("Hi {name}"), dedupe=dedupe)
    part = two.open(submission, ["name"], new_ulid(1), 1).part(first, recipients)
    placed = Counter(row.index for _, _, rows in decoded(part) for row in rows)
    assert set(placed.values()) <= {1}
    refused = {reject.index for reject in part.rejected}
    good = {r.index: r for r in recipients if r.to[0] == "+" and r.values != (None,)}
    assert refused == {r.index for r in recipients} - good.keys()
    if dedupe:
        assert {good[index].to for index in placed} == {one.to for one in good.values()}
        assert len(placed) == len({one.to for one in good.values()})
    else:
        assert placed.keys() == good.keys()
    assert part.accepted == len(placed) == sum(part.carriers.values())
    assert part.accepted + len(part.rejected) + part.duplicates == len(recipients)
    for lane, _, rows in decoded(part):
        assert 0 < len(rows) <= ENTRY_MESSAGES
        for row in rows:
            want = good[row.index]
            assert (row.to, row.values) == (want.to, want.values)
            if want.carrier is not None:
                assert lane == f"hook/sms/{want.carrier}"
