"""The verbs of operators: the same words, checks and effects as those of the commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from dispatcher.engine.ingest import Ingest
from dispatcher.engine.lane_states import (
    lane_pattern,
    lane_states,
    lasting,
    lasting_words,
    one_line,
    suspend,
)
from dispatcher.engine.letters import even_interval
from dispatcher.engine.limit_changes import UnknownLimit, change_limit, known_limit
from dispatcher.engine.moving import Mover, move_lanes
from dispatcher.engine.views import action_view, limit_view
from dispatcher.engine.waiting import overview
from dispatcher.errors import UsageError
from dispatcher.operator_bodies import (
    Audit,
    LaneList,
    LimitList,
    LimitState,
    MovedLanes,
    MoveLanes,
    ResumedLanes,
    SetLimit,
    SuspendedLanes,
    SuspendLanes,
)
from dispatcher.store.moving import Moving
from dispatcher.store.opening import Store
from dispatcher.store.operations import UNTIL_RESET, Operations
from dispatcher.web.calls import Answer, Call, Reader, acting
from dispatcher.web.gate import Gate
from dispatcher.web.openapi import Route, for_operators
from dispatcher.web.problems import Problem, invalid

LISTED = 50
LISTED_MOST = 10_000
_suspension, _limit, _target = Reader(SuspendLanes), Reader(SetLimit), Reader(MoveLanes)


class Operators:
    """Lanes, limits and the audit. All handlers raise Problem and StoreUnavailable."""

    def __init__(self, gate: Gate, ingest: Ingest) -> None:
        self._gate = gate
        self._ingest = ingest
        self._config = ingest.config

    def routes(self) -> list[Route]:
        """Where they are found."""
        lane, limit = "/v1/lanes/{lane}", "/v1/limits/{name}"
        written, named = (400, 408, 413, 415, 422, 503), (404, 503)
        routes = [
            Route("GET", "/v1/lanes", self.lanes, "What waits in every lane", LaneList,
                   problems=(422, 503), query=("lane",)),
            Route("POST", f"{lane}/suspend", self.suspend, "Let nothing of a lane pass",
                   SuspendedLanes, body=SuspendLanes, problems=written),
            Route("POST", f"{lane}/resume", self.resume, "Let a suspended lane go on",
                   ResumedLanes, problems=(404, 422, 503)),
            Route("POST", f"{lane}/move", self.move, "Take what waits to another provider",
                   MovedLanes, body=MoveLanes, problems=written),
            Route("GET", "/v1/limits", self.limits, "Every limit", LimitList, problems=(503,)),
            Route("GET", limit, self.limit, "One limit", LimitState, problems=named),
            Route("PUT", limit, self.set_limit, "Put a rate above the configured one",
                   LimitState, body=SetLimit, problems=(*written, 404)),
            Route("DELETE", limit, self.reset_limit, "Let the configuration decide again",
                   LimitState, problems=named),
            Route("GET", "/v1/audit", self.audit, "What operators did", Audit,
                   problems=(422, 503), query=("limit",)),
        ]  # fmt: skip
        return [for_operators(route) for route in routes]

    async def lanes(self, call: Call) -> Answer:
        """All lanes, or those of a pattern."""
        with usable():
            pattern = lane_pattern(call.query.get("lane", "*"))
            async with self._gate.enter() as (store, *_):
                found = await lane_states(store.inspector, self._config.providers, pattern)
        return Answer(found._asdict())

    async def suspend(self, call: Call) -> Answer:
        """As the command."""
        given = _suspension(call)
        with usable():
            lane, seconds = lane_pattern(call.arguments["lane"]), lasting(given.for_, "for")
            why = one_line(given.reason, "reason")
            action = acting(call, "suspend", lane, lasting_words(given.for_), why)
            async with self._gate.enter() as (store, *_):
                operations, known = _operations(store), self._config.providers
                return Answer(await suspend(store.inspector, operations, known, seconds, action))

    async def resume(self, call: Call) -> Answer:
        """As the command."""
        with usable():
            lane = lane_pattern(call.arguments["lane"])
        async with self._gate.enter() as (store, *_):
            done = await _operations(store).resume(lane, acting(call, "resume", lane))
        if done is None:
            raise Problem(404, "not_suspended", f"{lane} is not suspended")
        return Answer({"lane": lane, "lanes": done.lanes})

    async def move(self, call: Call) -> Answer:
        """As the command."""
        given = _target(call)
        with usable():
            lane = lane_pattern(call.arguments["lane"])
            action = acting(call, "move", lane, f"to {given.to}")
            async with self._gate.enter() as (store, *_):
                moving = Moving(store.client, store.keys, store.confirming)
                mover = Mover(self._ingest, moving, given.to, action)
                return Answer(await move_lanes(store.inspector, mover, lane))

    async def limits(self, _call: Call) -> Answer:
        """As the command."""
        async with self._gate.enter() as (store, *_):
            seen = await overview(store.inspector, self._ingest.limits, self._config.providers)
        views, waiting = seen.limits, seen.waiting
        found = [limit_view(views[name], waiting.get(name, ())) for name in sorted(views)]
        return Answer({"limits": found})

    async def limit(self, call: Call) -> Answer:
        """One of them."""
        async with self._known(call) as (store, name):
            view = await known_limit(self._config, store, self._ingest.limits, name)
            seen = await overview(store.inspector, self._ingest.limits, self._config.providers)
            return Answer(limit_view(view, seen.waiting.get(name, ())))

    async def set_limit(self, call: Call) -> Answer:
        """As the command."""
        given = _limit(call)
        with usable():
            interval_us = even_interval(given.rate, "rate")
            seconds = UNTIL_RESET if given.for_ is None else lasting(given.for_, "for")
        told = given.rate if given.for_ is None else f"{given.rate} for {given.for_}"
        return await self._change(call, "limits set", told, interval_us, seconds)

    async def reset_limit(self, call: Call) -> Answer:
        """As the command."""
        return await self._change(call, "limits reset", "", None, UNTIL_RESET)

    async def audit(self, call: Call) -> Answer:
        """The latest actions."""
        most = listed_most(call)
        async with self._gate.enter() as (store, *_):
            found = await store.inspector.actions(most)
        return Answer({"actions": [action_view(view) for view in found]})

    async def _change(
        self, call: Call, what: str, told: str, interval_us: float | None, seconds: float
    ) -> Answer:
        async with self._known(call) as (store, name):
            action = acting(call, what, name, told)
            limits = self._ingest.limits
            done = await change_limit(self._config, store, limits, action, interval_us, seconds)
            return Answer(limit_view(done.after, ()))

    @asynccontextmanager
    async def _known(self, call: Call) -> AsyncIterator[tuple[Store, str]]:
        try:
            async with self._gate.enter() as (store, *_):
                yield store, call.arguments["name"]
        except UnknownLimit as error:
            raise Problem(404, "not_found", str(error)) from None


@contextmanager
def usable() -> Iterator[None]:
    """What cannot be meant is a problem with a sentence for people."""
    try:
        yield
    except UsageError as error:
        raise invalid("invalid_field", str(error)) from None


def listed_most(call: Call) -> int:
    """How many are to be listed. Raises Problem 422."""
    text = call.query.get("limit", str(LISTED))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= LISTED_MOST):
        raise invalid("invalid_field", f"limit must be 1 to {LISTED_MOST}, got {text!r}")
    return int(text)


def _operations(store: Store) -> Operations:
    return Operations(store.client, store.keys)
