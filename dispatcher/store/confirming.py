"""Writes that count only once they are as safe as `[store] confirm` asks for.

A server tells of one connection when what was written on it has reached its disk or its replicas
(WAITAOF, WAIT). So the question goes behind the writes, on their connection, and many share one. A
part that had been accepted before writes nothing, and its first write may be on the way still: a
mark is written before the question, which is then about all that came before.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import redis.asyncio as aioredis
from redis import exceptions
from redis.asyncio.client import Pipeline

from dispatcher.errors import ConfigError, StoreUnavailable
from dispatcher.store.cells_client import CellsClient, at_cell
from dispatcher.store.connection import answering
from dispatcher.store.gathering import GatheringClient
from dispatcher.store.keys import Keys
from dispatcher.store.trouble import Unconfirmed

CONFIRM_SECONDS = 3.0
"""How long a write may take to become safe; less than any command may take to be answered."""

Confirm = Literal["memory", "disk", "replica"]


class Question(NamedTuple):
    """What is asked of the server, and the least it must answer."""

    command: tuple[str, ...]
    least: tuple[int, ...]

    def arguments(self, seconds: float) -> tuple[str | int, ...]:
        """The command with its time-out."""
        return (*self.command, int(seconds * 1000))

    def is_met(self, answer: Any) -> bool:
        """Whether the server has confirmed what was asked."""
        if isinstance(answer, Exception):
            return False
        found = answer if isinstance(answer, list) else [answer]
        return all(int(some) >= least for some, least in zip(found, self.least, strict=True))


ON_DISK = Question(("WAITAOF", "1", "0"), (1, 0))
ON_TWO_DISKS = Question(("WAITAOF", "1", "1"), (1, 1))
IN_A_REPLICA = Question(("WAIT", "1"), (1,))


async def question_for(client: aioredis.Redis, keys: Keys, confirm: Confirm) -> Question | None:
    """What to ask the servers of all cells, None where nothing is asked. Raises ConfigError where
    one cannot answer, StoreUnavailable where that of the main cell, `keys`, does not now."""
    if confirm == "memory":
        return None
    wanted = ON_DISK if confirm == "disk" else ON_TWO_DISKS
    for cell, own in keys.all().items():
        try:
            refusal = await answering(partial(_refusal, at_cell(client, own.tag), wanted))
        except StoreUnavailable:
            if cell == keys.cell:
                raise
            continue  # who uses the cell says so
        if refusal and confirm == "replica":
            return IN_A_REPLICA
        if refusal:
            where = f" (cell {cell})" if keys.several else ""
            raise ConfigError(f'[store] confirm = "disk" {refusal}{where}')
    return wanted


async def _refusal(client: aioredis.Redis, question: Question) -> str:
    """What the server has against being asked, empty for nothing."""
    try:
        await client.execute_command(*question.arguments(0.001))  # type: ignore[no-untyped-call]
    except exceptions.NoPermissionError:
        return "needs the right to run WAITAOF"
    except exceptions.ResponseError as error:
        if "unknown command" in str(error):
            return "needs WAITAOF: Redis 7.2 or later, or Valkey; this server is older"
        if "appendonly is disabled" in str(error):
            return "needs an append-only file: this server has appendonly no"
    return ""


def confirm(client: aioredis.Redis, keys: Keys, question: Question) -> aioredis.Redis:
    """A client that confirms what is written; in a cluster for each cell by itself."""
    if isinstance(client, CellsClient):
        return CellsClient(
            client.tag,
            lambda tag: ConfirmingClient(client.at(tag), Keys(keys.prefix, tag[1:-1]), question),
        )
    return ConfirmingClient(client, keys, question)


class ConfirmingClient(GatheringClient):
    """Answers a write when it is as safe as asked, with an error when that is not known in time:
    it may be safe all the same, and may be made again."""

    trips = 12
    commands = 256

    def __init__(self, client: aioredis.Redis, keys: Keys, question: Question) -> None:
        super().__init__(client)
        self._mark = keys.name("confirm")
        self._question = question

    async def _replies(self, pipeline: Pipeline) -> list[Any]:
        pipeline.set(self._mark, 1)
        pipeline.execute_command(*self._question.arguments(CONFIRM_SECONDS))
        *replies, marked, answer = await pipeline.execute(raise_on_error=False)
        if not isinstance(marked, Exception) and self._question.is_met(answer):
            return replies
        late = Unconfirmed(f"{self._question.command[0]} gave {answer} in {CONFIRM_SECONDS:g} s")
        return [reply if isinstance(reply, Exception) else late for reply in replies]
