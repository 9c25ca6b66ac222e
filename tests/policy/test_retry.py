"""Backoff: its bounds, and its law against the uniform one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.retry import backoff

DRAWS = 2000
LIMIT = 1.95 / math.sqrt(DRAWS)
"""The Kolmogorov-Smirnov statistic that a uniform sample exceeds once in a thousand times."""
BASE, MAXIMUM = 2.0, 600.0


def ks_statistic(sample: Sequence[float]) -> float:
    """The largest distance between the sample's distribution and the uniform one on [0, 1]."""
    steps = len(sample)
    return max(
        max((rank + 1) / steps - value, value - rank / steps)
        for rank, value in enumerate(sorted(sample))
    )


def sample(law: Callable[[int, Callable[[], float]], float], attempt: int) -> list[float]:
    """Draws of a law as shares of the ceiling that the attempt has."""
    ceiling = min(MAXIMUM, BASE * 2.0 ** (attempt - 1))
    draw = random.Random(attempt).random
    return [law(attempt, draw) / ceiling for _ in range(DRAWS)]


def full_jitter(attempt: int, draw: Callable[[], float]) -> float:
    return backoff(attempt, BASE, MAXIMUM, draw)


def equal_jitter(attempt: int, draw: Callable[[], float]) -> float:
    ceiling = backoff(attempt, BASE, MAXIMUM, lambda: 1.0)
    return ceiling / 2 + draw() * ceiling / 2


def no_jitter(attempt: int, draw: Callable[[], float]) -> float:
    return backoff(attempt, BASE, MAXIMUM, lambda: 1.0)


@pytest.mark.parametrize("attempt", [1, 2, 5, 9, 10, 40])
def test_the_wait_is_uniform_up_to_the_ceiling(attempt: int) -> None:
    assert ks_statistic(sample(full_jitter, attempt)) < LIMIT


@pytest.mark.parametrize("law", [equal_jitter, no_jitter])
@pytest.mark.parametrize("attempt", [1, 5, 40])
def test_the_check_tells_other_laws_apart(
    law: Callable[[int, Callable[[], float]], float], attempt: int
) -> None:
    assert ks_statistic(sample(law, attempt)) > LIMIT


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(1, 2), (2, 4), (3, 8), (9, 512), (10, 600), (11, 600)]
)
def test_the_ceiling_doubles_up_to_the_maximum(attempt: int, ceiling: float) -> None:
    assert backoff(attempt, BASE, MAXIMUM, lambda: 1.0) == ceiling
    assert backoff(attempt, BASE, MAXIMUM, lambda: 0.25) == ceiling / 4


@given(
    attempt=st.integers(min_value=1, max_value=10**30),
    base=st.floats(min_value=0, max_value=1e9),
    maximum=st.floats(min_value=0, max_value=1e9),
    draw=st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_any_attempt_has_a_finite_wait(
    attempt: int, base: float, maximum: float, draw: float
) -> None:
    assert 0 <= backoff(attempt, base, maximum, lambda: draw) <= maximum


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempts count from 1"):
        backoff(attempt, BASE, MAXIMUM, random.random)
