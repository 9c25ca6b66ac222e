"""`top` with real workers: printed once, as JSON, and live in a terminal that is left as it was."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from dispatcher.simulator import Refuse
from dispatcher.store.opening import Store
from tests.campaign import Campaign, numbers, until, webhook
from tests.cli.command import PACKAGE_ROOT, Commands

WIDTH, HEIGHT = 80, 24


class Screen:
    """`dispatcher top` in a pseudo terminal, and what it has written."""

    def __init__(self, directory: Path, *args: str) -> None:
        self._master, self._terminal = pty.openpty()
        size = struct.pack("HHHH", HEIGHT, WIDTH, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)
        self.before = termios.tcgetattr(self._terminal)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("DISPATCHER_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher", "top", *args],
            cwd=directory,
            env=environ | {"PYTHONPATH": str(PACKAGE_ROOT), "TERM": "xterm-256color"},
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            start_new_session=True,
        )
        self.written = b""
        os.set_blocking(self._master, False)

    @property
    def text(self) -> str:
        """All that was written so far, without colours and movements."""
        with suppress(BlockingIOError):
            while data := os.read(self._master, 65536):
                self.written += data
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.written.decode(errors="replace"))

    async def shows(self, pattern: str) -> None:
        async def there() -> bool:
            return re.search(pattern, self.text) is not None

        await until(there)

    def press(self, key: str) -> None:
        self.text  # noqa: B018 - what came before is kept
        self.written = b""
        os.write(self._master, key.encode())

    async def left(self) -> int:
        """Wait until it has ended; its exit code. The terminal is as it was."""
        code = await asyncio.to_thread(self.process.wait, 20)
        assert termios.tcgetattr(self._terminal) == self.before
        self.text  # noqa: B018
        assert self.written.rstrip().endswith(b"\x1b[?1049l")
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._terminal)


@contextmanager
def top(directory: Path, *args: str) -> Iterator[Screen]:
    screen = Screen(directory, *args)
    try:
        yield screen
    finally:
        screen.close()


@pytest.fixture
async def busy(campaign: Callable[[str], Campaign], simulator_url: str) -> Campaign:
    """Lanes of two carriers with more than goes out meanwhile, at 50/s, some refused."""
    run = campaign(webhook(simulator_url, rate="50/s") + '[retry]\nbase = "1ms"\nmax = "2ms"\n')
    run.simulator.set_faults([Refuse(status=503, code="busy", every=5)])
    await run.submit(numbers(2000), "bulk")
    await run.submit(numbers(900, "+33612"), "normal")
    return run


async def test_once_and_as_json(busy: Campaign, tmp_path: Path) -> None:
    commands = Commands(tmp_path)
    try:
        async with busy.work():
            both = commands.call("top", "--json"), commands.call("top", "--once", "--sort", "name")
            as_json, table = await asyncio.gather(*both)
    finally:
        commands.end()
    found = as_json.found
    german, french = sorted(found["lanes"], key=lambda lane: lane["lane"])
    assert (german["lane"], french["lane"]) == ("hook/sms/de", "hook/sms/fr")
    assert german["waiting"]["bulk"] > 0 < french["waiting"]["normal"]
    assert found["waiting"] == sum(sum(lane["waiting"].values()) for lane in found["lanes"])
    assert 0 < found["rate"] < 80 and found["sent"] > 0
    assert german["done_seconds"] > 20
    assert found["workers"] == {socket.gethostname(): 1}
    assert [limit["name"] for limit in found["limits"]] == ["provider:hook"]
    measured = re.findall(r"\d+\.\d+", as_json.out)
    assert measured and all(len(number.replace(".", "")) <= 7 for number in measured)
    lines = [line for line in table.out.splitlines() if line.startswith("hook/")]
    assert (table.code, [line.split()[0] for line in lines]) == (
        0,
        [german["lane"], french["lane"]],
    )
    assert re.search(r"errors \w+ \d", table.out)


async def test_live_in_a_terminal(busy: Campaign, tmp_path: Path) -> None:
    async with busy.work():
        with top(tmp_path) as screen:
            await screen.shows(r"hook/sms/de .*hook/sms/fr ")
            await screen.shows(r"[1-9][0-9]*/s now")
            screen.press("n")
            await screen.shows(r"lane +rate/s")  # drawn anew: lanes are in another order
            for key in ("\x1b[B", "\x1b[6~", "\x1b[A", "é", "x"):
                screen.press(key)
            screen.press("q")
            assert await screen.left() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_leaves_the_terminal_as_it_was(
    busy: Campaign, tmp_path: Path, number: signal.Signals
) -> None:
    with top(tmp_path) as screen:
        await screen.shows("hook/sms/de")
        screen.process.send_signal(number)
        assert await screen.left() == 0


@asynccontextmanager
async def relay(store: Store, port: int = 0) -> AsyncIterator[int]:
    """A port behind which the store is, for the time of the context."""
    links: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        links.add(link)
        far = urlsplit(store.url)
        if far.scheme == "unix":
            there, back = await asyncio.open_unix_connection(unquote(far.path))
        else:
            there, back = await asyncio.open_connection(far.hostname, far.port)
        try:
            await asyncio.gather(_pass(reader, back), _pass(there, writer))
        finally:
            for end in (back, writer):
                end.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for link in links:
        link.cancel()
    await asyncio.gather(*links, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def test_without_the_store_it_says_so_and_goes_on(busy: Campaign, tmp_path: Path) -> None:
    path = tmp_path / "dispatcher.toml"
    _, _, rest = path.read_text().partition("[providers")
    with ExitStack() as stack:
        async with relay(busy.store) as port:
            reached = f'url = "redis://127.0.0.1:{port}"\nprefix = "{busy.store.keys.prefix}"'
            path.write_text(f"[store]\n{reached}\n[providers{rest}")
            screen = stack.enter_context(top(tmp_path))
            await screen.shows("hook/sms/de")
        await screen.shows("the store does not answer since")
        screen.press("n")
        async with relay(busy.store, port):
            await screen.shows(r"top +\d\d:\d\d:\d\dZ")
            screen.press("q")
            assert await screen.left() == 0
