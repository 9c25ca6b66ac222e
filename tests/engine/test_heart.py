"""When a silent worker counts as dead: a heart with a clock and a store that are made up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import pytest

from dispatcher.engine import heart
from dispatcher.engine.clock import StoreClock
from dispatcher.engine.heart import MARGIN_SECONDS, Heart
from dispatcher.engine.outage import Outage
from dispatcher.errors import StoreUnavailable
from dispatcher.store.queue import Heartbeat, Queue

LEASE = 3.0
START = 1_000_000.0
"""The store's clock when the local one says 0."""


class Played:
    """A store whose other workers beat as `beats` says of each moment; None: it is away."""

    def __init__(self, beats: Callable[[float], dict[str, float] | None]) -> None:
        self.now = 0.0
        self.beaten: list[float] = []
        self.reclaimed: list[tuple[float, str, str]] = []
        self.dead = True
        self._beats = beats

    async def heartbeat(self, worker: str, *, first: bool, lease: float) -> Heartbeat:
        beats = self._beats(self.now)
        if beats is None:
            raise StoreUnavailable("away")
        self.beaten.append(self.now)
        told = {name: f"{(START + at) * 1e6:.0f}" for name, at in beats.items()}
        return Heartbeat(int((START + self.now) * 1e6), 0, {worker: "0", **told})

    async def reclaim_dead(self, worker: str, beat: str, lease: float) -> int | None:
        self.reclaimed.append((self.now, worker, beat))
        return 7 if self.dead else None

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Played]]:
    def begin(beats: Callable[[float], dict[str, float] | None], *, dead: bool = True) -> Played:
        played = Played(beats)
        played.dead = dead
        asyncio_ = SimpleNamespace(sleep=played.sleep, timeout=asyncio.timeout)
        monkeypatch.setattr(heart, "asyncio", asyncio_)
        monkeypatch.setattr(heart, "monotonic", lambda: played.now)
        return played

    yield begin


async def beat_until(played: Played, seconds: float) -> Heart:
    """Let a heart beat until this moment of the made-up clock."""
    clock = StoreClock()
    clock.now_us = lambda: int((START + played.now) * 1e6)  # type: ignore[method-assign]
    one = Heart(cast(Queue, played), "me", LEASE, clock, lambda number: None, Outage())
    await one.register()
    running = asyncio.create_task(one.run())
    while played.now < seconds and not running.done():
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return one


async def test_a_worker_that_stops_is_taken_over_once_after_its_lease(
    play: Callable[..., Played],
) -> None:
    played = play(lambda now: {"other": min(now, 2.0)} if now < 5.5 else {})
    await beat_until(played, 12)
    ((when, name, beat),) = played.reclaimed
    assert (name, beat) == ("other", f"{(START + 2.0) * 1e6:.0f}")
    assert 2.0 + LEASE < when < 2.0 + LEASE + 0.3


async def test_who_looks_dead_at_first_sight_is_watched_for_half_a_lease(
    play: Callable[..., Played],
) -> None:
    played = play(lambda now: {"other": -20.0})
    await beat_until(played, 1.7)
    ((when, _, _),) = played.reclaimed
    assert LEASE / 2 <= when < LEASE / 2 + 0.3


async def test_after_a_pause_of_the_store_nobody_is_taken_over(play: Callable[..., Played]) -> None:
    """Each worker beats again within a moment; until then all of them look 20 s old."""

    def beats(now: float) -> dict[str, float] | None:
        if 3 < now < 23:
            return None
        return {"a": now, "b": now} if now <= 3 or now > 24.4 else {"a": 2.5, "b": 2.5}

    played = play(beats)
    await beat_until(played, 40)
    assert played.reclaimed == []
    assert min(at for at in played.beaten if at > 3) < 23 + LEASE / 10


async def test_what_was_seen_before_an_outage_does_not_count(play: Callable[..., Played]) -> None:
    played = play(lambda now: None if 2.4 < now < 3.4 else {"other": 0.5})
    await beat_until(played, 6)
    assert played.reclaimed[0][0] >= 3.4 + LEASE / 2


async def test_a_worker_with_a_longer_lease_is_asked_for_now_and_then(
    play: Callable[..., Played],
) -> None:
    played = play(lambda now: {"other": 0.0}, dead=False)
    await beat_until(played, 30)
    moments = [when for when, _, _ in played.reclaimed]
    assert all(b - a >= LEASE / 2 for a, b in pairwise(moments))
    assert len(moments) > 10
    assert len(played.beaten) < 60


async def test_the_lease_ends_a_margin_early(play: Callable[..., Played]) -> None:
    played = play(lambda now: {} if now < 4 else None)
    one = await beat_until(played, 4.5)
    last = max(played.beaten)
    played.now = last + LEASE - MARGIN_SECONDS - 0.01
    assert one.alive()
    played.now = last + LEASE - MARGIN_SECONDS
    assert not one.alive()
