"""What becomes of a message that was not accepted: a pure function of the error and of what is
known."""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from typing import Literal, NamedTuple

from dispatcher.errors import OutcomeUnknown, ProviderDown, SendError, Throttled
from dispatcher.policy.retry import backoff

THROTTLED_WAIT = 1.0
"""Seconds a throttled message is deferred when the provider names no time."""
DOWN_WAIT = 30.0
"""Seconds a message is deferred when its provider is down and no other may take it."""

Kind = Literal["retry", "defer", "failover", "dead", "suppressed", "expired", "unknown"]

_OUTCOMES: dict[str, Kind] = {"dead": "dead", "suppressed": "suppressed", "unknown": "unknown"}


class Rule(NamedTuple):
    """`[retry]`: times in seconds."""

    max_attempts: int = 5
    base: float = 2.0
    maximum: float = 600.0
    max_age: float = 86_400.0


class Standing(NamedTuple):
    """What the decision needs to know of a message: attempts used before this send, seconds of age
    that count, when it expires (us, 0 = never), whether an unknown outcome may be sent again, and
    whether its route has a further provider."""

    attempts: int
    age: float
    expires_us: int
    resend: bool
    failover: bool


class Decision(NamedTuple):
    """`wait` is in seconds from now, for retry and defer; `attempts` are those used from now on."""

    kind: Kind
    attempts: int
    wait: float = 0.0
    code: str = ""
    detail: str = ""


def decide(
    error: SendError,
    standing: Standing,
    rule: Rule,
    now_us: int,
    random: Callable[[], float] = _random.random,
) -> Decision:
    """Decide by the class of the error alone (design: errors carry their consequences)."""
    decision = _after_error(error, standing, rule, random)
    due_us = now_us + decision.wait * 1_000_000
    if decision.kind in ("retry", "defer") and 0 < standing.expires_us <= due_us:
        perhaps_sent = isinstance(error, OutcomeUnknown)
        return decision._replace(kind="unknown" if perhaps_sent else "expired", wait=0.0)
    return decision


def _after_error(
    error: SendError, standing: Standing, rule: Rule, random: Callable[[], float]
) -> Decision:
    attempts = standing.attempts + (1 if error.uses_attempt else 0)
    decision = Decision("dead", attempts, 0.0, error.code, error.detail)
    if error.failover and standing.failover:
        return decision._replace(kind="failover")
    if not error.retryable or (isinstance(error, OutcomeUnknown) and not standing.resend):
        return decision._replace(kind=_OUTCOMES[error.outcome])
    if not error.uses_attempt:
        return decision._replace(kind="defer", wait=_deferral(error, random))
    wait = backoff(attempts, rule.base, rule.maximum, random)
    if attempts >= rule.max_attempts or standing.age + wait > rule.max_age:
        return decision._replace(kind=_OUTCOMES[error.outcome])
    return decision._replace(kind="retry", wait=max(wait, error.retry_after or 0.0))


def _deferral(error: SendError, random: Callable[[], float]) -> float:
    """Spread by a quarter, so that what was put off together does not come back in one moment."""
    usual = {Throttled: THROTTLED_WAIT, ProviderDown: DOWN_WAIT}.get(type(error), 0.0)
    return (usual if error.retry_after is None else error.retry_after) * (1 + random() / 4)
