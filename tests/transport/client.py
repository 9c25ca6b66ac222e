"""What the tests send with, and how they count what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from dispatcher.exchange import Delivery, HttpRequest, Result, Transport

PATIENCE = 10.0


def text(result: Result) -> tuple[int, bytes]:
    """Status and body of an answer that must be there."""
    assert result.delivery is Delivery.ANSWERED, result
    assert result.answer is not None
    return result.answer.status, result.answer.body


class Client:
    """Sends through a transport. Every result is kept; a second one for a send is an error."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.results: dict[int, list[Result]] = {}

    def send(
        self,
        url: str,
        body: bytes = b"hello",
        *,
        timeout: float = PATIENCE,
        headers: Mapping[str, str] = {"Content-Type": "text/plain"},
        method: str = "POST",
        write_by: float | None = None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> asyncio.Future[Result]:
        number = len(self.results)
        results = self.results[number] = []
        future = asyncio.get_running_loop().create_future()
        inside = True

        def done(result: Result) -> None:
            assert not inside
            assert (result.answer is not None) == (result.delivery is Delivery.ANSWERED)
            results.append(result)
            if not future.done():
                future.set_result(result)

        request = HttpRequest(method, url, headers, body, timeout, write_by, may_write)
        self.transport.send(request, done)
        inside = False
        return future

    async def ask(self, url: str, body: bytes = b"hello", **options: object) -> Result:
        async with asyncio.timeout(PATIENCE):
            return await self.send(url, body, **options)  # type: ignore[arg-type]

    async def ask_all(self, url: str, bodies: list[bytes], **options: object) -> list[Result]:
        async with asyncio.timeout(PATIENCE):
            sends = [self.send(url, body, **options) for body in bodies]  # type: ignore[arg-type]
            return await asyncio.gather(*sends)

    def assert_once(self) -> None:
        """Every send has exactly one result."""
        assert [len(results) for results in self.results.values()] == [1] * len(self.results)
