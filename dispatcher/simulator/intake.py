"""The way of one provider request: read, limit, faults, accept, journal, answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from dispatcher.simulator.account import Account
from dispatcher.simulator.connection import Exchange
from dispatcher.simulator.faults import NO_STRIKE, FaultPlan, Strike
from dispatcher.simulator.journal import Journal
from dispatcher.simulator.provider import Refused, Submission
from dispatcher.simulator.timers import Timers
from dispatcher.simulator.wire import Reply, Request

UNREAD = (Submission("", "", ""),)
"""Stands for what a request carried when it was refused before it was read."""


class Intake:
    """Takes requests in for all accounts."""

    def __init__(self, journal: Journal, plan: FaultPlan, timers: Timers) -> None:
        self._journal = journal
        self._plan = plan
        self._timers = timers

    def receive(self, account: Account, request: Request, exchange: Exchange) -> None:
        """Handle one request. A message is accepted on arrival, before any latency."""
        arrived = time.monotonic_ns()
        self._journal.counts.requests += 1
        submissions: Sequence[Submission] = UNREAD
        strike = NO_STRIKE
        try:
            submissions = account.read(request)
            account.take(arrived, len(submissions))
            strike = self._plan.strike(account.label, submissions)
            if strike.fault and (refusal := strike.fault.refusal(account.provider)):
                raise refusal
            reply = self._accept(account, submissions, arrived)
        except Refused as refused:
            about = refused.about or submissions
            self.note_refused(account.label, about, refused.code, arrived)
            reply = account.provider.refusal(refused)
        self._answer(account, exchange, reply, strike)

    def note_refused(
        self, label: str, submissions: Sequence[Submission], code: str, arrived_ns: int
    ) -> None:
        """Journal messages that were not accepted."""
        for submission in submissions:
            self._journal.add("refused", label, submission, arrived_ns, code=code)

    def _accept(self, account: Account, submissions: Sequence[Submission], arrived: int) -> Reply:
        reply, outcomes = account.provider.accept(submissions, account.in_flight + 1)
        for submission, outcome in zip(submissions, outcomes, strict=True):
            self._journal.add(
                outcome.event, account.label, submission, arrived, outcome.id, outcome.code
            )
        return reply

    def _answer(self, account: Account, exchange: Exchange, reply: Reply, strike: Strike) -> None:
        deliver = strike.fault.deliver if strike.fault else Exchange.reply
        delay = account.latency() + strike.delay
        if delay > 0:
            self._timers.call_later(delay, partial(deliver, exchange, reply))
        else:
            deliver(exchange, reply)
        if exchange.payload is None:
            account.enter()
            exchange.ended = account.leave
