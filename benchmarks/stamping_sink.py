"""A provider that answers at once and remembers when every request arrived.

The server is one process on the bare asyncio protocol: `python -m benchmarks.stamping_sink FILE`
prints its port and obeys the lines on its stdin, each with a line on its stdout:

`count`                              how many requests have arrived
`throttle SECONDS RETRY_AFTER`       answer 429 with that Retry-After for so long from now
`delay PATH MILLISECONDS`            answer requests of a path later; 0 ends it
`trouble KIND`                       from now on take requests and answer badly; `none` ends it
`close`, `open`                      refuse connections; take them again
`deaf`, `hear`                       leave connections open, old and new ones, and heed nothing;
                                     heed new ones again: those that were there stay dead
`unclear PATH`                       how many messages were taken without an answer that says so
`stall`                              the worst stall of this process since the first `stall`, in us
`end`                                write FILE and leave

Kinds of trouble: `hang` never answers, `reset` answers one byte, `garbage` what is not HTTP,
`truncated` with half a JSON body, `partial` with one result for a batch, `500` refuses.

Stamps are of CLOCK_MONOTONIC, in nanoseconds, when the sink reads the first and the last bytes of a
request. They include what the sockets and a busy machine add to the moment of sending.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs

import httptools
import msgspec
import uvloop

from benchmarks.arrivals import Arrival

ACCEPTED = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
    b'{"sid":"SM0000"}'
)
END_SECONDS = 30.0
STALL_TICK = 0.005
TROUBLE = {
    "hang": b"",
    "reset": b"H",
    "garbage": b"\x16\x03\x01 this is not HTTP\r\n\r\n",
    "truncated": b'HTTP/1.1 201 Created\r\nContent-Length: 6\r\n\r\n{"sid"',
    "partial": b'HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{"results":[{"id":"a1"}]}',
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
}
UNCLEAR = ("hang", "reset", "garbage")
"""After these a client cannot know whether its messages were taken."""


class _Message(msgspec.Struct):
    from_: str = msgspec.field(name="from")
    to: str


class _Request(msgspec.Struct):
    messages: list[_Message]


class Journal:
    """All arrivals in columns of numbers, 30 bytes each; texts that repeat stand there once."""

    def __init__(self) -> None:
        self._first, self._last, self._to = array("q"), array("q"), array("q")
        self._path, self._sender, self._accepted = array("H"), array("H"), array("B")
        self._names: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._to)

    def note(self, first: int, last: int, path: str, sender: str, to: int, accepted: bool) -> None:
        """Remember one message."""
        self._first.append(first)
        self._last.append(last)
        self._to.append(to)
        self._path.append(self._names.setdefault(path, len(self._names)))
        self._sender.append(self._names.setdefault(sender, len(self._names)))
        self._accepted.append(accepted)

    def save(self, path: Path) -> None:
        """Write everything to a file that `load` reads."""
        columns = (self._first, self._last, self._to, self._path, self._sender, self._accepted)
        data = (list(self._names), [column.tobytes() for column in columns])
        path.write_bytes(msgspec.msgpack.encode(data))

    @staticmethod
    def load(path: Path) -> list[Arrival]:
        """The arrivals in a file, in the order of their first bytes."""
        names, raw = msgspec.msgpack.decode(path.read_bytes(), type=tuple[list[str], list[bytes]])
        columns = [array(kind, data) for kind, data in zip("qqqHHB", raw, strict=True)]
        found = [
            Arrival(first / 1e9, last / 1e9, names[path], names[sender], to, bool(accepted))
            for first, last, to, path, sender, accepted in zip(*columns, strict=True)
        ]
        return sorted(found)


class Faults:
    """What the sink was told to do besides accepting."""

    def __init__(self) -> None:
        self._until = 0.0
        self._throttled = b""
        self._delays: dict[str, float] = {}
        self.trouble = ""
        self.deaf = False
        self.unclear: Counter[str] = Counter()
        self.connections: set[Connection] = set()

    def throttle(self, seconds: float, retry_after: int) -> None:
        """Refuse with 429 for so long from now."""
        self._until = time.monotonic() + seconds
        self._throttled = (
            f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {retry_after}\r\n"
            "Content-Length: 0\r\n\r\n"
        ).encode()

    def delay(self, path: str, seconds: float) -> None:
        """Answer requests of a path this much later."""
        self._delays[path] = seconds

    def answer(self, path: str) -> tuple[bytes, float]:
        """The answer to a request that has just arrived, and after how many seconds."""
        throttled = time.monotonic() < self._until
        return self._throttled if throttled else ACCEPTED, self._delays.get(path, 0.0)


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, journal: Journal, faults: Faults) -> None:
        self._journal = journal
        self._faults = faults
        self._parser = httptools.HttpRequestParser(self)
        self._read = self._first = self._owed = 0
        self._path = ""
        self._dead = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._faults.connections.add(self)
        if self._faults.deaf:
            self.die()

    def connection_lost(self, exc: Exception | None) -> None:
        self._faults.connections.discard(self)

    def abort(self) -> None:
        """Reset it; what it was about to answer stays unanswered."""
        self._forsake()
        self._transport.abort()

    def die(self) -> None:
        """Stay open, and take and answer nothing any more."""
        self._forsake()
        self._dead = True

    def _forsake(self) -> None:
        self._faults.unclear[self._path] += self._owed
        self._owed = 0

    def data_received(self, data: bytes) -> None:
        self._read = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if not self._dead:
            self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._first, self._path, self._body = self._read, "", b""

    def on_url(self, url: bytes) -> None:
        self._path += url.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._faults.trouble:
            return self._misbehave(self._faults.trouble)
        answer, delay = self._faults.answer(self._path)
        accepted = answer is ACCEPTED
        messages = list(_messages(self._body))
        for sender, to in messages:
            self._journal.note(self._first, self._read, self._path, sender, to, accepted)
        if delay:
            self._owed = len(messages)
            asyncio.get_running_loop().call_later(delay, self._write, answer)
        else:
            self._transport.write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._dead and not self._transport.is_closing():
            self._owed = 0
            self._transport.write(answer)

    def _misbehave(self, kind: str) -> None:
        messages = list(_messages(self._body))
        for sender, to in messages:
            self._journal.note(self._first, self._read, self._path, sender, to, kind != "500")
        if kind in UNCLEAR:
            self._faults.unclear[self._path] += len(messages)
        self._transport.write(TROUBLE[kind])
        if kind in ("reset", "garbage"):
            self._transport.close()


def _messages(body: bytes) -> Iterator[tuple[str, int]]:
    """Sender and recipient of every message in a request of kind webhook or twilio."""
    if not body.startswith(b"{"):
        form = parse_qs(body.decode())
        yield form["From"][0], int(form["To"][0])
    elif body.startswith(b'{"messages"'):
        for message in msgspec.json.decode(body, type=_Request).messages:
            yield message.from_, int(message.to)
    else:
        message = msgspec.json.decode(body, type=_Message)
        yield message.from_, int(message.to)


class StampingSink:
    """A running sink process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        command = [sys.executable, "-m", "benchmarks.stamping_sink", str(file)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.url = f"http://127.0.0.1:{self._read()}"

    def count(self) -> int:
        """Messages arrived so far."""
        return self._ask("count")

    def throttle(self, seconds: float, retry_after: int) -> None:
        """Answer 429 with Retry-After for so many seconds from now."""
        self._ask(f"throttle {seconds} {retry_after}")

    def delay(self, path: str, seconds: float) -> None:
        """Answer requests of a path this many seconds late; 0 ends it."""
        self._ask(f"delay {path} {seconds * 1000}")

    def trouble(self, kind: str) -> None:
        """Answer everything badly, as the module says; `none` ends it."""
        self._ask(f"trouble {kind}")

    def refuse(self, refused: bool) -> None:
        """Close the port and every connection, or open the port again."""
        self._ask("close" if refused else "open")

    def deafen(self, deaf: bool) -> None:
        """Heed nothing, or the connections that are opened from now on."""
        self._ask("deaf" if deaf else "hear")

    def unclear(self, path: str) -> int:
        """Messages of a path that were taken without an answer that says so."""
        return self._ask(f"unclear {path}")

    def stall(self) -> float:
        """The worst stall of its process since this was first asked, in seconds."""
        return self._ask("stall") / 1e6

    def end(self) -> list[Arrival]:
        """Stop it; everything that has arrived."""
        self._ask("end")
        self.close()
        return Journal.load(self._file)

    def close(self) -> None:
        """Stop it, if it still runs."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(END_SECONDS)
        self._process.stdout.close()

    def _ask(self, line: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the sink has ended")
        return int(line)


class _Orders:
    """Obeys the lines on stdin."""

    def __init__(self, file: Path) -> None:
        self.journal = Journal()
        self._faults = Faults()
        self._file = file
        self._server: asyncio.Server | None = None
        self._port = 0
        self._watch: asyncio.Task[None] | None = None
        self._stall = 0.0

    async def listen(self) -> int:
        """Take connections; the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self.journal, self._faults), "127.0.0.1", self._port, backlog=4096
        )
        self._port = int(self._server.sockets[0].getsockname()[1])
        return self._port

    def refuse(self) -> None:
        """Take no connections any more."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._faults.connections):
            connection.abort()

    async def obey(self, line: str) -> bool:
        """Do what a line says; False for the last one."""
        number = None
        match line.split():
            case ["throttle", seconds, retry_after]:
                self._faults.throttle(float(seconds), int(retry_after))
            case ["delay", path, milliseconds]:
                self._faults.delay(path, float(milliseconds) / 1000)
            case ["trouble", kind] if kind == "none" or kind in TROUBLE:
                self._faults.trouble = "" if kind == "none" else kind
            case ["close"]:
                self.refuse()
            case ["open"]:
                await self.listen()
            case ["deaf" | "hear" as order]:
                self._faults.deaf = order == "deaf"
                for connection in self._faults.connections if self._faults.deaf else ():
                    connection.die()
            case ["unclear", path]:
                number = self._faults.unclear[path]
            case ["stall"]:
                self._watch = self._watch or asyncio.create_task(self._measure_stall())
                number = int(self._stall * 1e6)
            case ["end"]:
                self.journal.save(self._file)
            case ["count"]:
                pass
            case _:
                raise SystemExit(f"unknown order {line!r}")
        print(len(self.journal) if number is None else number, flush=True)
        return line.strip() != "end"

    async def _measure_stall(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(STALL_TICK)
            self._stall = max(self._stall, time.monotonic() - before - STALL_TICK)


async def _serve(file: Path) -> None:
    loop, orders = asyncio.get_running_loop(), _Orders(file)
    print(await orders.listen(), flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while (line := await lines.readline()) and await orders.obey(line.decode()):
        pass
    orders.refuse()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Path(sys.argv[1])))
