"""The worker processes of one machine, kept alive by the process that started them.

Each child is a `dispatcher worker` of one process, with a port and a name of its own. One that dies
is started again, and what it held is put back at once. All of them end with this process, however
that ends: their stdin is a pipe from it that nobody writes to.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

from dispatcher.config import Config
from dispatcher.engine.reclaim import Reclaimer
from dispatcher.errors import ConfigError, DispatcherError
from dispatcher.settings import WorkerConfig

log = logging.getLogger(__name__)

STOP_SECONDS = 60.0
"""How long a worker may drain before it is killed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that died is started again; doubled from one to the next."""
WELL_SECONDS = 60.0
"""Seconds of life after which a death counts as the first one again."""
LAST_PORT = 65535
CLEAN = (0, -signal.SIGTERM)
"""How a worker ends that holds nothing: drained, or told to end before it had begun."""


class Crew:
    """As many workers as `[worker] processes` says, each in a process of its own. Raises
    ConfigError when there are not enough ports for them."""

    def __init__(self, path: Path, config: Config) -> None:
        self._command = ("worker", "--config", str(path), "--processes", "1")
        self._ports = _ports(config.worker)
        self._reclaimer = Reclaimer(config.store)
        self._running: set[Process] = set()

    async def run(self, stop: asyncio.Event, hangup: asyncio.Event) -> None:
        """Keep all of them until `stop` is set, then let them drain; `hangup` is passed on.

        Raises DispatcherError when one of them did not drain.
        """
        roles = [asyncio.create_task(role) for role in (self._reclaimer.run(), self._relay(hangup))]
        try:
            async with asyncio.TaskGroup() as tasks:
                keepers = [
                    tasks.create_task(self._keep(number, port, stop, tasks))
                    for number, port in enumerate(self._ports, 1)
                ]
        finally:
            for role in roles:
                role.cancel()
            await asyncio.wait(roles)
        left = [str(number) for number, keeper in enumerate(keepers, 1) if not keeper.result()]
        if left:
            raise DispatcherError(f"ended without draining: worker {', '.join(left)}")

    async def _keep(
        self, number: int, port: int, stop: asyncio.Event, tasks: asyncio.TaskGroup
    ) -> bool:
        """Start a worker again and again; whether the last one drained when it had to stop."""
        pause, stopped = FIRST_PAUSE, tasks.create_task(stop.wait())
        while not stop.is_set():
            member, began = f"{number}.{secrets.token_hex(8)}", time.monotonic()
            code = await self._live(member, port, stopped)
            if code not in CLEAN:
                tasks.create_task(self._reclaimer.put_back(member))
            if stop.is_set():
                return code in CLEAN
            if time.monotonic() - began >= WELL_SECONDS:
                pause = FIRST_PAUSE
            log.error("worker %d %s, next start in %g s", number, _ending(code), pause)
            await asyncio.wait((stopped,), timeout=pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        return True

    async def _live(self, member: str, port: int, stopped: asyncio.Task[bool]) -> int:
        """One worker from its start to its end; its exit code."""
        try:
            process = await start(*self._command, "--port", str(port), "--member", member)
        except OSError as error:
            log.error("worker %s cannot be started: %s", member, error)
            return os.EX_OSERR
        self._running.add(process)
        ended = asyncio.create_task(process.wait())
        await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        await end(process)
        self._running.discard(process)
        return await ended

    async def _relay(self, hangup: asyncio.Event) -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            for process in self._running:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGHUP)


def _ports(config: WorkerConfig) -> list[int]:
    if not config.port:
        return [0] * config.processes
    last = config.port + config.processes - 1
    if last > LAST_PORT:
        raise ConfigError(
            f"worker.port {config.port} leaves no ports for {config.processes} processes: "
            f"the last would be {last}, above {LAST_PORT}"
        )
    return list(range(config.port, last + 1))


def _ending(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


async def start(*command: str, stdout: int | None = None) -> Process:
    """Start `dispatcher COMMAND` in a session of its own, so that Ctrl-C reaches only us. Raises
    OSError."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *command, stdin=PIPE, stdout=stdout, start_new_session=True
    )


async def end(process: Process) -> None:
    """SIGTERM, and SIGKILL to what does not end by it."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _watch() -> None:
    """Ends this process as SIGTERM does once its parent is gone."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    from dispatcher.cli.main import main

    threading.Thread(target=_watch, daemon=True).start()
    sys.exit(main(sys.argv[1:]))
