"""What sentinels that do not agree, or do not answer, make of the master."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions
from redis.asyncio import Connection

from dispatcher.address import Node
from dispatcher.store.masters import Sentinels

Answer = dict[bytes, bytes] | Exception


class Told(Sentinels):
    """Sentinels that say what they are told to."""

    def __init__(self, *answers: Answer) -> None:
        self._answers: dict[Node, Answer] = {(f"s{n}", 1): a for n, a in enumerate(answers)}
        super().__init__([*self._answers], "mymaster", connection=Connection, options={})

    async def _ask(self, node: Node) -> Any:
        answer = self._answers[node]
        if isinstance(answer, Exception):
            raise answer
        return answer


def master(host: str, epoch: int) -> dict[bytes, bytes]:
    return {b"ip": host.encode(), b"port": b"6379", b"config-epoch": str(epoch).encode()}


ABSENT = exceptions.ConnectionError("Connection refused")
REFUSED = exceptions.AuthenticationError("invalid password")


@pytest.mark.parametrize("old", [1, 9])
async def test_the_latest_decision_holds(old: int) -> None:
    new = master("new", 10)
    for told in (Told(master("old", old), new), Told(new, ABSENT, master("old", old))):
        assert await told.discover_master("") == ("new", 6379)


async def test_one_that_answers_is_enough() -> None:
    assert await Told(REFUSED, ABSENT, master("a", 0)).discover_master("") == ("a", 6379)


async def test_a_refusal_by_all_is_said_as_such() -> None:
    with pytest.raises(exceptions.AuthenticationError):
        await Told(REFUSED, REFUSED).discover_master("")


async def test_without_an_answer_every_reason_is_named() -> None:
    with pytest.raises(exceptions.ConnectionError, match="s0:1: invalid password; s1:1: Connec"):
        await Told(REFUSED, ABSENT).discover_master("")
