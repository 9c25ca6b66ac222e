"""The simulator as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import uvloop

from dispatcher.errors import DispatcherError
from dispatcher.simulator.settings import Settings
from dispatcher.simulator.simulator import Simulator


def run(settings: Settings, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `announce` is given the base URL once it listens.

    Raises DispatcherError when it cannot listen there.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, host, port, announce))


async def _serve(settings: Settings, host: str, port: int, announce: Callable[[str], None]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    simulator = Simulator(settings)
    try:
        url = await simulator.start(host, port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise DispatcherError(f"cannot listen on {host}:{port}: {reason}") from None
    announce(url)
    await stopped.wait()
    await simulator.stop()
