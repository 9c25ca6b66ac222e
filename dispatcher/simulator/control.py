"""The control endpoints: `/_/…` and `/healthz`. Wrong input is answered 400 with one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from dispatcher.errors import ConfigError
from dispatcher.simulator.account import Account
from dispatcher.simulator.connection import Exchange
from dispatcher.simulator.faults import AnyFault, FaultPlan, parse_fault
from dispatcher.simulator.journal import Journal
from dispatcher.simulator.wire import Reply, Request

PREFIX = "/_/"
HEALTH = "/healthz"


class Control:
    """Reads the journal and changes faults and accounts while the simulator runs."""

    def __init__(self, journal: Journal, plan: FaultPlan, accounts: Mapping[str, Account]) -> None:
        self._journal = journal
        self._plan = plan
        self._accounts = accounts

    def serve(self, request: Request, exchange: Exchange) -> None:
        """Answer one control request."""
        try:
            self._route(request, exchange)
        except (ConfigError, msgspec.DecodeError) as error:
            exchange.reply(_line(400, str(error)))

    def change_account(self, label: str, changes: Mapping[str, Any]) -> None:
        """Change settings of the account `KIND/NAME`. Raises ConfigError."""
        account = self._accounts.get(label)
        if account is None:
            known = ", ".join(self._accounts)
            raise ConfigError(f"there is no account {label}; there are {known}")
        account.change(changes)

    def clear(self) -> None:
        """Forget the journal, the counts and every message taken so far."""
        self._journal.clear()
        for account in self._accounts.values():
            account.provider.forget()

    def _route(self, request: Request, exchange: Exchange) -> None:
        match request.method, request.path:
            case (("GET" | "HEAD"), "/healthz"):
                exchange.reply(_line(200, "ok"))
            case "GET", "/_/journal":
                lines = self._journal.lines(_start(request.query))
                exchange.stream(Reply(200, content_type="application/x-ndjson"), lines)
            case "DELETE", "/_/journal":
                self.clear()
                exchange.reply(Reply(204))
            case "GET", "/_/counts":
                exchange.reply(Reply(200, msgspec.json.encode(self._journal.counts)))
            case "GET", "/_/faults":
                exchange.reply(Reply(200, msgspec.json.encode(self._listed_faults())))
            case "PUT", "/_/faults":
                ordered = msgspec.json.decode(request.body, type=list[AnyFault | str])
                self._plan.order([parse_fault(x) if isinstance(x, str) else x for x in ordered])
                exchange.reply(Reply(204))
            case "PUT", path if path.startswith("/_/accounts/"):
                changes = msgspec.json.decode(request.body, type=dict[str, Any])
                self.change_account(path.removeprefix("/_/accounts/"), changes)
                exchange.reply(Reply(204))
            case method, path:
                exchange.reply(_line(404, f"there is no control endpoint {method} {path}"))

    def _listed_faults(self) -> list[dict[str, Any]]:
        return [
            {**msgspec.to_builtins(fault), "struck": struck}
            for fault, struck in zip(self._plan.faults, self._plan.struck(), strict=True)
        ]


def _line(status: int, text: str) -> Reply:
    return Reply(status, f"{text}\n".encode(), content_type="text/plain")


def _start(query: str) -> int:
    values = parse_qs(query, keep_blank_values=True)
    if not values:
        return 0
    number = values.pop("from", [""])[0]
    if values or not (number.isascii() and number.isdigit()):
        raise ConfigError(f"?{query}: only from=N is allowed, N being the number of an entry")
    return int(number)
