"""How commands run their coroutine: the event loop, the signals, the log."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import msgspec

from dispatcher.settings import LogConfig

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


async def run_all(calls: Iterable[Coroutine[Any, Any, None]], most: int) -> None:
    """Run `calls` in their order, at most `most` at a time; the next one is asked for only when
    there is room. The first error, also of the iteration itself, ends those under way."""
    under_way: set[asyncio.Task[None]] = set()
    try:
        for call in calls:
            under_way.add(asyncio.create_task(call))
            if len(under_way) >= most:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        await asyncio.gather(*under_way)
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def stop_on_signals(on_reload: Callable[[], None] | None = None) -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set; a second Ctrl-C ends the process at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def interrupt() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    if on_reload is not None:
        loop.add_signal_handler(signal.SIGHUP, on_reload)
    return stop


def start_log(config: LogConfig) -> None:
    """Log to stderr: plain on a terminal, JSON lines elsewhere, unless the config says."""
    handler = logging.StreamHandler(sys.stderr)
    plain = config.format == "plain" or (config.format == "auto" and sys.stderr.isatty())
    handler.setFormatter(_Plain() if plain else _Json())
    root = logging.getLogger("dispatcher")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(config.level.upper())


class _Plain(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
