"""A worker says when the clock of the store was set, and takes a slow answer for no step."""

from __future__ import annotations

import pytest

from dispatcher.engine.clock import StoreClock

NOW = 1_800_000_000.0
"""What the store's clock says at the local moment 0, in seconds."""


def learn(clock: StoreClock, read: float, asked: float, answered: float, ahead: float = 0) -> None:
    """The store read its clock at a local moment; it may be ahead of what it was."""
    clock.learn(int((NOW + read + ahead) * 1e6), asked, answered)


@pytest.mark.parametrize(
    ("ahead", "said"), [(-3600, "went back by 3600.0 s"), (90, "went forward by 90.0 s")]
)
def test_a_step_is_told_once(caplog: pytest.LogCaptureFixture, ahead: float, said: str) -> None:
    clock = StoreClock()
    learn(clock, 10, 10, 10)
    learn(clock, 11, 11, 11, ahead)
    learn(clock, 12, 12, 12, ahead)
    (line,) = caplog.messages
    assert said in line


def test_what_a_slow_answer_leaves_open_is_no_step(caplog: pytest.LogCaptureFixture) -> None:
    clock = StoreClock()
    learn(clock, 10, 10, 10)
    learn(clock, 11, 11, 31)
    learn(clock, 32, 32, 32)
    learn(clock, 53, 33, 53)
    learn(clock, 54, 54, 54)
    learn(clock, 75, 55, 75, 0.1)
    assert not caplog.messages


def test_the_first_answer_is_no_step(caplog: pytest.LogCaptureFixture) -> None:
    learn(StoreClock(), 10, 10, 10, -86_400)
    assert not caplog.messages
