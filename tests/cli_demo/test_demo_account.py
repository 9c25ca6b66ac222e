"""The demo's checker: it must fail for every way in which a message can be unaccounted for."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from dispatcher.cli.demo_campaign import (
    CARRIERS,
    MAILBOXES,
    OPERATORS,
    REJECTED,
    code_recipients,
    recipients,
    share,
)
from dispatcher.cli.demo_check import (
    Arrival,
    Submitted,
    Verdict,
    accepted_ids,
    judge,
    repeats,
    strangers,
)
from dispatcher.cli.demo_limits import measure, pauses, worst_burst
from dispatcher.messages import Attempt, Record, Status
from dispatcher.policy.carriers import Carriers
from dispatcher.store.inspector import Known

MESSAGES = 6
MS = 1_000_000


class Account(NamedTuple):
    """What `judge` is given, to be spoilt."""

    recipients: list[str]
    records: dict[int, Known]
    arrivals: list[Arrival]

    def judge(self, accepted: int = MESSAGES, **counters: int) -> Verdict:
        counts = Counter(status.word for status, _, _ in self.records.values())
        return judge(
            Submitted("sms", self.recipients, accepted, counts | counters, self.records),
            accepted_ids(self.arrivals),
        )

    def settle(self, index: int, status: Status, *codes: str) -> None:
        """Give a message another outcome, after attempts with these codes."""
        story = tuple(Attempt(0, "twilio", code) for code in codes)
        sent = f"SM{index}" if status is Status.SENT else None
        code = codes[-1] if codes else None
        record = Record(0, "lane", self.recipients[index], None, sent, code, history=story)
        self.records[index] = (status, 0, record)

    def take(self, index: int, id: str) -> None:
        """Have the provider accept a message."""
        self.arrivals.append(arrival(self.recipients[index], len(self.arrivals) * MS, id=id))

    def drop(self, index: int) -> None:
        """Have the provider never see a message."""
        to = self.recipients[index]
        self.arrivals[:] = [one for one in self.arrivals if one.to != to]


def arrival(to: str, at_ns: int, id: str = "", code: str = "") -> Arrival:
    return Arrival("refused" if code else "accepted", id, code, to, at_ns)


@pytest.fixture
def account() -> Account:
    """Six messages, all sent and all accepted once."""
    account = Account(recipients(MESSAGES, OPERATORS), {}, [])
    for index in range(MESSAGES):
        account.settle(index, Status.SENT)
        account.take(index, f"SM{index}")
    return account


def test_a_complete_account_has_no_faults(account: Account) -> None:
    verdict = account.judge()
    assert verdict.faults == []
    assert (verdict.accepted, verdict.distinct, verdict.twice) == (6, 6, 0)
    assert verdict.counts["sent"] == 6


def test_refused_and_unknown_messages_are_accounted_for(account: Account) -> None:
    for index, status, code in (
        (0, Status.DEAD, "21211"),
        (1, Status.SUPPRESSED, "21610"),
        (2, Status.UNKNOWN, "reset"),
        (3, Status.UNKNOWN, "reset"),
    ):
        account.settle(index, status, code)
        account.drop(index)
    account.take(2, "SM2")
    verdict = account.judge()
    assert verdict.faults == []
    assert verdict.unclear == {"reset": (2, 1)}
    assert (verdict.accepted, verdict.distinct) == (3, 3)


def test_a_message_the_provider_never_saw_is_missing(account: Account) -> None:
    account.drop(4)
    assert account.judge().faults == [
        "1 message sent by our account, but never accepted by the provider (record 4)"
    ]


def test_another_id_than_the_provider_gave_is_no_proof(account: Account) -> None:
    account.drop(4)
    account.take(4, "SM999")
    (fault,) = account.judge().faults
    assert "never accepted" in fault


def test_a_message_without_an_outcome_is_missing(account: Account) -> None:
    account.settle(0, Status.SCHEDULED, "500")
    del account.records[5]
    (fault,) = account.judge().faults
    assert fault == "2 messages without an outcome (record 0, 5)"


def test_a_message_accepted_twice_is_a_fault(account: Account) -> None:
    account.take(3, "SM3-again")
    verdict = account.judge()
    (fault,) = verdict.faults
    assert "accepted more than once" in fault and "record 3" in fault
    assert verdict.twice == 1


@pytest.mark.parametrize("code", ["timeout", "reset", "worker_lost", "garbage"])
def test_twice_is_no_fault_where_we_said_so(account: Account, code: str) -> None:
    account.settle(3, Status.SENT, code)
    account.take(3, "SM3-again")
    verdict = account.judge()
    assert verdict.faults == []
    assert verdict.twice == 1


def test_a_passing_fault_does_not_excuse_a_second_acceptance(account: Account) -> None:
    account.settle(3, Status.SENT, "20500")
    account.take(3, "SM3-again")
    assert len(account.judge().faults) == 1


@pytest.mark.parametrize(
    "status", [Status.DEAD, Status.EXPIRED, Status.SUPPRESSED, Status.CANCELLED]
)
def test_a_message_accepted_but_listed_as_unsent_is_a_fault(
    account: Account, status: Status
) -> None:
    account.settle(1, status, "21211")
    (fault,) = account.judge().faults
    assert "dead or suppressed by our account (record 1)" in fault


def test_what_was_never_submitted_is_a_fault(account: Account) -> None:
    submitted = Submitted("sms", account.recipients, MESSAGES, {}, {})
    assert strangers([submitted], accepted_ids(account.arrivals)) == []
    account.arrivals.append(arrival("+15550000000", 0, id="SM7"))
    assert account.judge().faults == []
    assert strangers([submitted], accepted_ids(account.arrivals)) == [
        "1 message accepted that we never submitted"
    ]


def test_an_email_is_known_by_the_id_of_its_request(account: Account) -> None:
    account.drop(4)
    account.take(4, "SM4.17")
    assert account.judge().faults == []
    account.take(4, "SM4.18")
    assert account.judge().twice == 1


def test_what_repeated_posts_may_not_do() -> None:
    assert repeats(["a", "b"], ["a", "b"], 0) == []
    assert repeats(["a", "b", "c"], ["a", "b"], 0) == ["1 batch nobody has a receipt for"]
    assert repeats(["a"], ["a"], 2) == ["2 repeated posts with another answer than the first time"]


def test_counters_must_agree_with_the_records(account: Account) -> None:
    assert account.judge(sent=7).faults == ["sent: the batch counts 7, the records 6"]
    assert account.judge(dead=1).faults == ["dead: the batch counts 1, the records 0"]


def test_messages_refused_at_submit_are_a_fault(account: Account) -> None:
    assert account.judge(accepted=5).faults == ["1 message refused at submit"]


def test_shares_add_up_and_recipients_occur_once() -> None:
    for messages in (1, 7, 1200, 20_000):
        for carriers in (OPERATORS, MAILBOXES):
            assert sum(share(messages, carriers)) == messages
            assert len(set(recipients(messages, carriers))) == messages
        assert not set(code_recipients(messages)) & set(recipients(messages, OPERATORS))
    rates = [carrier.share for carrier in OPERATORS]
    assert len(set(rates)) == 6
    assert share(sum(rates), OPERATORS) == rates == [carrier.rate for carrier in OPERATORS]


def test_every_recipient_has_the_carrier_it_is_counted_for() -> None:
    carriers = Carriers({one.name: [one.place] for one in OPERATORS})
    for carrier in CARRIERS:
        to = carrier.recipient(5)
        assert carriers.of(carrier.channel, to) == carrier.name
        assert [one for one in CARRIERS if one.serves(to)] == [carrier]
    assert REJECTED in recipients(1000, MAILBOXES)


def test_the_worst_burst_is_the_highest_level_of_the_bucket() -> None:
    paced = [n * 10 * MS for n in range(50)]
    assert worst_burst(paced, 100) == pytest.approx(1)
    assert worst_burst([0, 0, 0, 10 * MS], 100) == pytest.approx(3)
    assert worst_burst([], 100) == 0


def test_pauses_and_the_tail_of_retries_do_not_count_against_use() -> None:
    before = [arrival(f"+1{n}", n * 10 * MS) for n in range(200)]
    throttled = arrival("+1199", 1999 * MS, code="20429")
    after = [arrival(f"+1{n}", 1000 * MS + n * 10 * MS) for n in range(200, 400)]
    retry = arrival("+1199", 9000 * MS)
    arrivals = [*before, throttled, *after, retry]
    campaign = {one.to for one in arrivals}
    paused = pauses(arrivals, "20429", 1.0)
    assert paused == [(1999 * MS, 2999 * MS)]
    use = measure(100, arrivals, paused, campaign)
    assert use.arrivals == 402
    assert use.used == pytest.approx(1, abs=0.01)
    slow = measure(200, arrivals, paused, campaign)
    assert slow.used == pytest.approx(0.5, abs=0.01)
    assert measure(100, arrivals, (), campaign).used == pytest.approx(0.8, abs=0.01)
    assert measure(100, arrivals[:50], (), campaign).used is None


def test_a_later_code_is_no_backlog() -> None:
    campaign = [arrival(f"+1{n}", n * 10 * MS) for n in range(200)]
    code = arrival("+9", 9000 * MS)
    use = measure(100, [*campaign, code], (), {one.to for one in campaign})
    assert use.arrivals == 201
    assert use.used == pytest.approx(1, abs=0.01)


def test_messages_of_one_request_come_at_once_and_may() -> None:
    arrivals = [arrival(f"{n}@x", n // 50 * 1000 * MS) for n in range(250)]
    use = measure(50, arrivals, (), {one.to for one in arrivals}, 50)
    assert use.used == pytest.approx(1)
    assert (use.burst, use.promised) == (50, 53.5)


def test_pauses_that_overlap_are_one() -> None:
    refused = [arrival("+1", at * MS, code="20429") for at in (0, 400, 2000)]
    assert pauses(refused, "20429", 1.0) == [(0, 1400 * MS), (2000 * MS, 3000 * MS)]
