"""The checker of the chaos benchmark finds what is dropped, doubled and left behind."""

from __future__ import annotations

import pytest

from benchmarks.arrivals import Arrival
from benchmarks.checker import Expected, Final, Journals, check, pace, recovery, story

PATH = "/one"


def arrival(to: int, at: float, *, accepted: bool = True, path: str = PATH) -> Arrival:
    return Arrival(at, at, path, "SHOP", to, accepted)


def journals(count: int = 5) -> Journals:
    """A run in which all went well, a message every tenth of a second."""
    return Journals(
        {to: Expected(f"batch-{to}", PATH, 0.0) for to in range(count)},
        [arrival(to, 1 + to / 10) for to in range(count)],
        {to: Final("sent", 1.05 + to / 10) for to in range(count)},
    )


def test_all_is_well() -> None:
    finding = check(journals())
    assert finding == (5, [], [], {PATH: []}, [], [], [], [])


def test_a_dropped_message_is_lost() -> None:
    run = journals()
    del run.arrivals[2]  # type: ignore[attr-defined]
    assert check(run).lost == [2]


@pytest.mark.parametrize("status", ["queued", "scheduled"])
def test_a_message_left_behind_is_lost(status: str) -> None:
    run = journals()
    run = run._replace(finals={**run.finals, 3: Final(status, 2.0)})
    assert check(run).lost == [3]


def test_a_message_the_store_forgot_is_lost_unless_it_arrived() -> None:
    run = journals()
    finals = {to: final for to, final in run.finals.items() if to not in (3, 4)}
    finding = check(run._replace(finals=finals, arrivals=run.arrivals[:4]))
    assert (finding.lost, finding.forgotten) == ([4], [3])


def test_a_refused_message_has_not_arrived() -> None:
    run = journals(1)
    assert check(run._replace(arrivals=[arrival(0, 1.0, accepted=False)])).lost == [0]


def test_every_repetition_counts() -> None:
    run = journals()
    again = [arrival(1, 2.0), arrival(1, 3.0), arrival(2, 2.5)]
    finding = check(run._replace(arrivals=[*run.arrivals, *again]))
    assert finding.twice == {PATH: [1, 1, 2]}
    assert finding.lost == []


def test_a_repetition_after_a_refusal_is_none() -> None:
    run = journals(1)
    tries = [arrival(0, 1.0, accepted=False), arrival(0, 2.0)]
    finding = check(run._replace(arrivals=tries))
    assert (finding.lost, finding.twice) == ([], {PATH: []})


def test_unknown_and_dead_are_listed_and_not_lost() -> None:
    run = journals()
    finals = {**run.finals, 0: Final("unknown", 2.0), 1: Final("dead", 2.0, "http_500")}
    finding = check(run._replace(finals=finals, arrivals=run.arrivals[2:]))
    assert (finding.lost, finding.unknown, finding.ended) == ([], [0], [1])
    assert finding.taken == []


def test_an_unknown_message_may_have_arrived() -> None:
    run = journals()
    finding = check(run._replace(finals={**run.finals, 0: Final("unknown", 2.0)}))
    assert (finding.unknown, finding.taken) == ([0], [0])


def test_what_nobody_accepted_is_a_stray() -> None:
    run = journals()
    assert check(run._replace(arrivals=[*run.arrivals, arrival(99, 2.0)])).strays == [99]


def test_recovery_is_the_longest_silence_after_the_fault() -> None:
    run = journals(3)
    times = [1.0, 1.2, 4.2]
    run = run._replace(arrivals=[arrival(to, at) for to, at in enumerate(times)])
    assert recovery(run, 1.1) == pytest.approx(3.0)
    assert recovery(run, 3.0) == pytest.approx(1.2)


def test_silence_after_the_last_fresh_message_is_no_outage() -> None:
    run = journals(2)
    again = arrival(0, 9.0)
    assert recovery(run._replace(arrivals=[*run.arrivals, again]), 1.05) < 1


def test_recovery_lasts_until_the_last_doubt_is_settled() -> None:
    run = journals()
    finals = {**run.finals, 0: Final("unknown", 6.0, "worker_lost")}
    assert recovery(run._replace(finals=finals), 1.0) == pytest.approx(5.0)


def test_a_limit_that_is_not_kept() -> None:
    run = journals()
    kept, broken = pace(run.arrivals, PATH, 10, 1.5), pace(run.arrivals, PATH, 5, 1.5)
    assert kept.worst <= kept.promised
    assert broken.worst == pytest.approx(3.0)
    assert broken.worst > broken.promised


def test_a_story_tells_everything_in_order() -> None:
    run = journals(1)
    final = Final("sent", 3.0, "", ["reset at /one"])
    run = run._replace(arrivals=[arrival(0, 2.5), arrival(0, 1.5)], finals={0: final})
    head, *lines = story(run, 0, 0.0)
    assert head == "+0"
    assert [line.split("s  ", 1)[1] for line in lines] == [
        "accepted as batch-0 for /one",
        "taken by the provider",
        "taken by the provider",
        "sent in the store, attempts: reset at /one",
    ]
