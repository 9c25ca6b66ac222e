"""Stores of more than one process, on loopback."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis.asyncio as aioredis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.campaign import until
from tests.ports import free_port

DOCUMENT = Path(__file__).parents[2] / "docs" / "store.md"
SLOTS = 16384
MAIN = key_slot(b"{main}")
"""The slot of the cell `main`."""
QUICK = ('save ""', "repl-diskless-sync-delay 0")
"""Lines for servers that keep nothing and whose replicas follow at once."""

Login = Mapping[str, Any]
"""Options of the client of a test."""


def rights() -> str:
    """What a user of the store needs, as docs/store.md says."""
    (line,) = re.findall(
        r"^user dispatcher on >PASSWORD (~.*)$", DOCUMENT.read_text(), re.MULTILINE
    )
    return str(line)


class Node:
    """A server process, which a client of its own speaks to. `lines` are its configuration."""

    def __init__(
        self,
        program: str,
        directory: Path,
        lines: Sequence[str],
        flags: Sequence[str],
        login: Login,
    ) -> None:
        self.port = free_port()
        directory.mkdir()
        ports = ("port 0", f"tls-port {self.port}") if login.get("ssl") else (f"port {self.port}",)
        own = (*ports, f"dir {directory}", "bind 127.0.0.1", *lines)
        file = directory / "server.conf"
        file.write_text("\n".join([*own, ""]))
        self._command, self._log = [program, str(file), *flags], directory / "log"
        self.client = aioredis.Redis(port=self.port, **login)
        self.begin()

    def begin(self) -> None:
        """Start it, also again with what it had on disk."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    async def ask(self, *command: str | int | bytes) -> Any:
        """The reply to a command."""
        return await self.client.execute_command(*command)

    async def answers(self) -> bool:
        try:
            return bool(await self.client.ping())
        except (RedisError, OSError):
            return False

    async def end(self) -> None:
        """End it as a loss of power does."""
        self.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self.process.wait)
        await self.client.aclose()


class Nodes:
    """The servers of a test, each in a directory of its own."""

    def __init__(self, directory: Path, login: Login) -> None:
        self._directory, self._login = directory, login
        self.all: list[Node] = []

    async def start(self, program: str, *lines: str, flags: Sequence[str] = ()) -> Node:
        """A server that answers."""
        directory = self._directory / f"node-{len(self.all)}"
        node = Node(program, directory, lines, flags, self._login)
        self.all.append(node)
        await until(node.answers)
        return node

    async def sentinel(
        self, program: str, master: Node, *lines: str, host: str = "127.0.0.1", quorum: int = 1
    ) -> Node:
        """A sentinel that watches the master `mymaster` and names it as `host`; so many decide."""
        return await self.start(
            program,
            "sentinel resolve-hostnames yes",
            "sentinel announce-hostnames yes",
            f"sentinel monitor mymaster {host} {master.port} {quorum}",
            "sentinel down-after-milliseconds mymaster 500",
            "sentinel failover-timeout mymaster 2000",
            *lines,
            flags=["--sentinel"],
        )


class Watched:
    """A master, called `mymaster`, and its replica, watched by sentinels."""

    def __init__(self, master: Node, replica: Node, sentinels: Sequence[Node]) -> None:
        self.master, self.replica, self.sentinels = master, replica, sentinels

    @property
    def url(self) -> str:
        return f"redis+sentinel://{_addresses(self.sentinels)}/mymaster"

    async def pair(self) -> tuple[Node, Node]:
        """The master, and the replica that takes over when it dies."""
        return self.master, self.replica

    async def serves(self, node: Node) -> bool:
        """Whether a node is the master by the word of every sentinel."""
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        named = [int((await sentinel.ask(*question))[1]) for sentinel in self.sentinels]
        return set(named) == {node.port}

    async def acquainted(self) -> bool:
        """Whether every sentinel knows the replica and the other sentinels."""
        answers = [await node.ask("SENTINEL", "MASTER", "mymaster") for node in self.sentinels]
        known = {
            (int(answer[b"num-slaves"]), int(answer[b"num-other-sentinels"])) for answer in answers
        }
        return known == {(1, len(self.sentinels) - 1)}


@asynccontextmanager
async def watched(
    directory: Path,
    program: str,
    *lines: str,
    sentinels: int = 1,
    watching: Sequence[str] = (),
    **login: Any,
) -> AsyncIterator[Watched]:
    """A master and a replica with the configuration `lines`, and sentinels with `watching`, most of
    which decide."""
    async with nodes(directory, **login) as running:
        master = await running.start(program, *lines)
        replica = await running.start(program, *lines, f"replicaof 127.0.0.1 {master.port}")
        await until(lambda: in_sync(master, [replica]))
        quorum = sentinels // 2 + 1
        found = [
            await running.sentinel(program, master, *watching, quorum=quorum)
            for _ in range(sentinels)
        ]
        built = Watched(master, replica, found)
        await until(built.acquainted)
        yield built


def _addresses(nodes: Sequence[Node]) -> str:
    return ",".join(f"127.0.0.1:{node.port}" for node in nodes)


@asynccontextmanager
async def nodes(directory: Path, **login: Any) -> AsyncIterator[Nodes]:
    """Servers, all ended in the end. The clients of the test log in with `login`."""
    running = Nodes(directory, login)
    try:
        yield running
    finally:
        for node in running.all:
            await node.end()


class Cluster:
    """Masters that share the slots, replicas that are dealt out to them from the one on that serves
    the cell, and spares that serve nothing."""

    def __init__(self, running: Nodes, program: str, lines: Sequence[str]) -> None:
        self._running, self._program, self._lines = running, program, lines
        self.masters: list[Node] = []
        self.replicas: list[Node] = []
        self.spares: list[Node] = []

    @property
    def url(self) -> str:
        return f"redis+cluster://{_addresses([*self.masters, *self.replicas])}"

    async def build(self, masters: int, replicas: int, spares: int) -> None:
        """Start the nodes, divide the slots and wait until all of them are served."""
        self.masters = [await self.start() for _ in range(masters)]
        share = -(-SLOTS // masters)
        for number, node in enumerate(self.masters):
            first, last = number * share, min((number + 1) * share, SLOTS) - 1
            await node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            await node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        self.replicas = [await self.start() for _ in range(replicas)]
        self.spares = [await self.start() for _ in range(spares)]
        await self.join()
        followed = [self.masters[(MAIN // share + number) % masters] for number in range(replicas)]
        for master, node in zip(followed, self.replicas, strict=True):
            await node.ask("CLUSTER", "REPLICATE", await id_of(master))
        for master, node in zip(followed, self.replicas, strict=True):
            await until(partial(in_sync, master, [node]))

    async def start(self) -> Node:
        """A node that knows no other."""
        return await self._running.start(
            self._program,
            f"cluster-port {free_port()}",
            "cluster-enabled yes",
            "cluster-node-timeout 1000",
            "cluster-replica-validity-factor 0",
            *QUICK,
            *self._lines,
        )

    async def join(self) -> None:
        """Have every node know every other, and wait until all of them are ready."""
        first, *others = everybody = [*self.masters, *self.replicas, *self.spares]
        for node in others:
            bus = (await node.ask("CONFIG", "GET", "cluster-port"))[b"cluster-port"]
            await first.ask("CLUSTER", "MEET", "127.0.0.1", node.port, int(bus))

        async def acquainted() -> bool:
            lists = [await node.ask("CLUSTER", "NODES") for node in everybody]
            states = [await node.ask("CLUSTER", "INFO") for node in everybody]
            known = all(listed.count(b" connected") == len(everybody) for listed in lists)
            return known and all(b"cluster_state:ok" in state for state in states)

        await until(acquainted)

    async def owner(self, asked: Node) -> Node | None:
        """The node that serves the cell, as one of them says."""
        for first, last, master, *_ in await asked.ask("CLUSTER", "SLOTS"):
            if first <= MAIN <= last:
                return next((node for node in self._running.all if node.port == master[1]), None)
        return None

    async def serves(self, node: Node) -> bool:
        """Whether a node serves the cell by its own word."""
        return await self.owner(node) is node

    async def pair(self) -> tuple[Node, Node]:
        """The node that serves the cell, and the replica that takes over when it dies."""
        owner = await self.owner(self.masters[0])
        assert owner is not None
        return owner, self.replicas[0]

    async def move(self, source: Node, target: Node, pause: float) -> None:
        """Move the slot of the cell key by key, with a pause after the first half of them."""
        await target.ask("CLUSTER", "SETSLOT", MAIN, "IMPORTING", await id_of(source))
        await source.ask("CLUSTER", "SETSLOT", MAIN, "MIGRATING", await id_of(target))
        keys = await source.ask("CLUSTER", "GETKEYSINSLOT", MAIN, 10_000)
        half = len(keys) // 2
        await _migrate(source, target, keys[:half])
        await asyncio.sleep(pause)
        while keys := await source.ask("CLUSTER", "GETKEYSINSLOT", MAIN, 10_000):
            await _migrate(source, target, keys)
        for node in (target, source, *self.masters):
            await node.ask("CLUSTER", "SETSLOT", MAIN, "NODE", await id_of(target))

    async def move_at_once(self, source: Node, target: Node) -> None:
        """Move the slot of the cell in one step, which not all servers can. Raises
        redis.ResponseError."""
        slot = ("SLOTSRANGE", MAIN, MAIN, "NODE", await id_of(target))
        await source.ask("CLUSTER", "MIGRATESLOTS", *slot)

        async def moved() -> bool:
            return await self.owner(source) is target

        await until(moved)


async def _migrate(source: Node, target: Node, keys: Sequence[bytes]) -> None:
    await source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)


async def listened_to(node: Node) -> bool:
    """Whether a worker waits for its bell and for announcements there."""
    channel = "d:control:{main}"
    subscribed = (await node.ask("PUBSUB", "NUMSUB", channel))[1]
    return bool(subscribed == 1 and (await node.ask("INFO", "clients"))["blocked_clients"] == 1)


async def in_sync(master: Node, replicas: Sequence[Node]) -> bool:
    """Whether all that a master has by now is on its replicas."""
    offset = (await master.ask("ROLE"))[1]
    roles = [await node.ask("ROLE") for node in replicas]
    return all(
        role[0] == b"slave" and role[3] == b"connected" and role[4] >= offset for role in roles
    )


async def id_of(node: Node) -> str:
    """What a node is called in its cluster."""
    return str((await node.ask("CLUSTER", "MYID")).decode())


@asynccontextmanager
async def cluster(
    directory: Path, program: str, *lines: str, masters: int = 3, replicas: int = 0, spares: int = 0
) -> AsyncIterator[Cluster]:
    """A cluster that serves all slots; `lines` are for the configuration of every node."""
    async with nodes(directory) as running:
        built = Cluster(running, program, lines)
        await built.build(masters, replicas, spares)
        yield built
