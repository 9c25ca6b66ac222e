"""Trouble with the store is said once, and its end when every role has an answer again."""

from __future__ import annotations

import pytest

from dispatcher.engine.outage import Outage
from dispatcher.errors import StoreUnavailable

GONE = StoreUnavailable("store is unreachable: refused")


def lines(caplog: pytest.LogCaptureFixture) -> int:
    return len(caplog.records)


def test_it_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    for role in ("settle", "heartbeat", "settle"):
        outage.failed(role, GONE)
    assert lines(caplog) == 1
    outage.answered("settle")
    assert lines(caplog) == 1 and outage.reason
    outage.answered("heartbeat")
    assert lines(caplog) == 2 and not outage.reason


def test_a_cell_that_answers_does_not_end_the_outage_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = Outage()
    main, eu = whole.of("main"), whole.of("eu")
    for _ in range(3):
        eu.failed("heartbeat", GONE)
        main.answered("heartbeat")
    main.over()
    assert lines(caplog) == 1 and whole.reason
    eu.over()
    assert lines(caplog) == 2 and not whole.reason


def test_each_cell_of_a_cluster_is_said(caplog: pytest.LogCaptureFixture) -> None:
    whole = Outage()
    for cell in ("main", "eu"):
        for _ in range(2):
            error = StoreUnavailable(f"store cannot be reached (cell {cell})", cell=cell)
            whole.of(cell).failed("heartbeat", error)
    assert [record.getMessage() for record in caplog.records] == [
        "store cannot be reached (cell main); waiting",
        "store cannot be reached (cell eu); waiting",
    ]
    assert whole.reason == "store cannot be reached (cell eu)"
