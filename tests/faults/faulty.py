"""Providers as a plug-in may get them wrong: each fault of its code, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from dispatcher.errors import InvalidMessage, Permanent
from dispatcher.exchange import Accepted, HttpAnswer, HttpRequest, Outgoing
from dispatcher.messages import Envelope
from dispatcher.providers.webhook import Webhook
from dispatcher.settings import ProviderConfig


class Faulty(Webhook):
    """A webhook whose key `fault` says what is wrong with it."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        given = dict(config.settings)
        self._fault = given.pop("fault")
        super().__init__(name, replace(config, settings=given))

    def compose(self, envelope: Envelope) -> Callable[[Outgoing], HttpRequest]:
        if self._fault == "compose raises":
            raise KeyError("campaign")
        if self._fault == "half a character in a refusal":
            raise InvalidMessage("\ud83d", "\ud83d")
        compose = super().compose(envelope)
        return lambda message: self._spoil(compose(message))

    def compose_batch(self, envelope: Envelope) -> Callable[[Sequence[Outgoing]], HttpRequest]:
        if self._fault == "compose raises":
            raise KeyError("campaign")
        compose = super().compose_batch(envelope)
        return lambda messages: self._spoil(compose(messages))

    def read(self, answer: HttpAnswer) -> Any:
        return self._misread() or super().read(answer)

    def read_batch(self, answer: HttpAnswer, count: int) -> Any:
        if self._fault == "too few verdicts":
            return [Accepted()] * (count - 1)
        misread = self._misread()
        return [misread] * count if misread else super().read_batch(answer, count)

    def _spoil(self, request: HttpRequest) -> Any:
        wrong: dict[str, Any] = {
            "no request": None,
            "body as text": replace(request, body=request.body.decode()),
            "url without a host": replace(request, url="http://"),
            "headers of numbers": replace(request, headers={"X-Number": 1}),
            "no time-out": replace(request, timeout=None),
        }
        return wrong.get(self._fault, request)

    def _misread(self) -> Any:
        if self._fault == "read raises":
            raise KeyError("status")
        given: dict[str, Any] = {
            "not a verdict": "ok",
            "a number for an id": Accepted(17),  # type: ignore[arg-type]
            "half a character in an id": Accepted("\ud83d"),
            "half a character in a detail": Permanent("\ud83d", "\ud83d"),
        }
        return given.get(self._fault)
