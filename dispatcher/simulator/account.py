"""A provider's account while the simulator runs: its limit, its latency, its requests in flight."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dispatcher.errors import ConfigError
from dispatcher.simulator.limit import Bucket
from dispatcher.simulator.provider import AccountSettings, Provider, Submission
from dispatcher.simulator.settings import AnyAccount
from dispatcher.simulator.wire import Request


class Account:
    """One account and its live state. `label` is `KIND/NAME`."""

    def __init__(self, settings: AnyAccount, rng: random.Random) -> None:
        self._rng = rng
        self.settings: AnyAccount = settings
        self.provider: Provider[Any] = settings.build()
        self.label = f"{self.provider.kind}/{settings.name}"
        self.in_flight = 0
        self._bucket = _bucket(settings)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change some of the settings; a changed limit starts with a full bucket.

        Raises ConfigError when one of them is unknown or out of range, or renames the account.
        """
        before = self.settings
        try:
            after = msgspec.convert({**msgspec.to_builtins(before), **changes}, type(before))
        except msgspec.ValidationError as error:
            raise ConfigError(f"account {self.label}: {error}") from None
        if after.name != before.name:
            raise ConfigError(f"account {self.label}: an account cannot be renamed")
        self.settings = after
        self.provider.configure(after)
        if (after.rate, after.burst) != (before.rate, before.burst):
            self._bucket = _bucket(after)

    def latency(self) -> float:
        """Seconds until the next answer."""
        return self.settings.latency.draw(self._rng)

    def read(self, request: Request) -> Sequence[Submission]:
        """The messages of a request that may use this account. Raises Refused."""
        self.provider.authenticate(request)
        if self.settings.suspended:
            raise self.provider.suspended()
        return self.provider.read(request)

    def take(self, now_ns: int, messages: int) -> None:
        """Count messages against the account's own limits. Raises Refused when above them."""
        concurrency = self.settings.concurrency
        if concurrency is not None and self.in_flight >= concurrency:
            raise self.provider.throttled(self.settings.latency.mean)
        if self._bucket is not None:
            wait = self._bucket.take(now_ns, messages)
            if wait > 0:
                raise self.provider.throttled(wait)

    def enter(self) -> None:
        """A request begins to wait for its answer."""
        self.in_flight += 1

    def leave(self) -> None:
        """A waiting request has its answer, or its connection is gone."""
        self.in_flight -= 1


def _bucket(settings: AccountSettings) -> Bucket | None:
    if settings.rate is None:
        return None
    return Bucket(settings.rate, settings.burst or max(1, math.floor(settings.rate / 10)))
