"""Dead letters over HTTP: list, replay, resolve, drop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from dispatcher.engine.lane_states import one_line
from dispatcher.engine.letters import (
    Replay,
    Selection,
    check_ids,
    check_selection,
    drop,
    even_interval,
    letter_view,
    newest,
    since,
    tally_view,
)
from dispatcher.engine.resolving import WORDS, Resolution
from dispatcher.operator_bodies import (
    DropLetters,
    LetterList,
    LettersDone,
    LettersResolved,
    MeantLetters,
    ReplayLetters,
    ResolveLetters,
)
from dispatcher.settings import Config
from dispatcher.store.letters import Letters
from dispatcher.store.opening import Store
from dispatcher.web.calls import Answer, Call, Reader, acting
from dispatcher.web.gate import Gate
from dispatcher.web.openapi import Route, for_operators
from dispatcher.web.operators import listed_most, usable
from dispatcher.web.problems import invalid

FILTERS = ("provider", "code", "channel", "tenant", "status")
_replay, _resolve, _drop = Reader(ReplayLetters), Reader(ResolveLetters), Reader(DropLetters)
EXAMPLE = "01JD4Z3C7V9M2N8Q5R6S7T8V9W-17"


class Dead:
    """The verbs of operators for dead letters. All handlers raise Problem and StoreUnavailable."""

    def __init__(self, gate: Gate, config: Config) -> None:
        self._gate = gate
        self._providers = config.providers
        self._status_seconds = config.retention.status

    def routes(self) -> list[Route]:
        """Where they are found."""
        written = (400, 408, 413, 415, 422, 429, 503)
        routes = [
            Route("GET", "/v1/dead", self.list, "The latest dead letters", LetterList,
                  problems=(422, 503), query=(*FILTERS, "since", "limit")),
            Route("POST", "/v1/dead/replay", self.replay, "Send dead letters again", LettersDone,
                  body=ReplayLetters, problems=written,
                  example={"code": "30008", "since": "2h", "rate": "10/s", "dry_run": True}),
            Route("POST", "/v1/dead/resolve", self.resolve,
                  "Say what became of messages whose outcome is unknown", LettersResolved,
                  body=ResolveLetters, problems=written,
                  example={"messages": [EXAMPLE], "outcome": "delivered", "reason": "console"}),
            Route("POST", "/v1/dead/drop", self.drop, "Forget dead letters", LettersDone,
                  body=DropLetters, problems=written,
                  example={"code": "21211", "since": "24h", "dry_run": True}),
        ]  # fmt: skip
        return [for_operators(route) for route in routes]

    async def list(self, call: Call) -> Answer:
        """As the command."""
        most, query = listed_most(call), call.query
        selection = _selection((), query.get("since"), {name: query.get(name) for name in FILTERS})
        async with self._opened(selection) as (_, letters):
            found = await newest(letters, selection, most)
            shown = [letter_view(one) for one in found]
            return Answer({"letters": shown, "total": await letters.count()})

    async def replay(self, call: Call) -> Answer:
        """As the command."""
        given = _replay(call)
        selection = _meant(given)
        with usable():
            interval_us = 0.0 if given.rate is None else even_interval(given.rate, "rate")
        told = "" if given.rate is None else f"at {given.rate}"
        _check_meant(selection, given)
        action = acting(call, "dead replay", selection.words(), told)
        async with self._opened(selection) as (store, letters):
            now_us = await store.inspector.now_us()
            replay = Replay(letters, now_us, interval_us, self._status_seconds)
            done = await replay.run(selection, action, given.dry_run)
        return Answer(tally_view(done, given.dry_run))

    async def resolve(self, call: Call) -> Answer:
        """As the command."""
        given = _resolve(call)
        selection = _meant(given)
        _check_meant(selection, given)
        with usable():
            why = one_line(given.reason, "reason") if given.reason else ""
        action = acting(call, "dead resolve", selection.words(), f"as {given.outcome}", why)
        async with self._opened(selection) as (store, _):
            resolution = Resolution(store, self._status_seconds, action, given.dry_run)
            await resolution.say(selection, WORDS[given.outcome])
        return Answer(resolution.view())

    async def drop(self, call: Call) -> Answer:
        """As the command."""
        given = _drop(call)
        selection = _meant(given)
        _check_meant(selection, given)
        action = acting(call, "dead drop", selection.words())
        async with self._opened(selection) as (_, letters):
            done = await drop(letters, selection, action, given.dry_run)
        return Answer(tally_view(done, given.dry_run))

    @asynccontextmanager
    async def _opened(self, selection: Selection) -> AsyncIterator[tuple[Store, Letters]]:
        async with self._gate.enter() as (store, *_):
            with usable():
                await check_selection(store.inspector, self._providers, selection)
            yield store, Letters(store.client, store.keys)


def _check_meant(selection: Selection, given: MeantLetters) -> None:
    if selection.everything and not (given.all or given.dry_run):
        raise invalid("invalid_field", "say which letters, or all")


def _meant(given: MeantLetters) -> Selection:
    with usable():
        check_ids(given.messages)
    words = {name: getattr(given, name, None) for name in FILTERS}
    return _selection(given.messages, given.since, words)


def _selection(
    messages: tuple[str, ...], since_text: str | None, words: Mapping[str, str | None]
) -> Selection:
    with usable():
        since_us = since(since_text, time.time_ns() // 1000, "since")
    return Selection(
        messages, words["provider"], words["code"], words["channel"], words["tenant"],
        words["status"], since_us,
    )  # fmt: skip
