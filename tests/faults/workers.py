"""Worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dispatcher import failpoints
from dispatcher.store.opening import Store
from tests.campaign import until

ROOT = Path(__file__).parents[2]


@contextmanager
def worker(config: Path, failpoint: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """`dispatcher worker` with this configuration, which may be told where to die; killed in the
    end if it still runs."""
    command = [sys.executable, "-m", "dispatcher", "worker", "--config", str(config)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), failpoints.VARIABLE: failpoint}
    with (config.parent / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log, env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def drain(process: subprocess.Popen[bytes]) -> int:
    """End a worker as an operator does; its exit code."""
    process.send_signal(signal.SIGTERM)
    return await asyncio.to_thread(process.wait, 20)


def ended(processes: Iterable[subprocess.Popen[bytes]]) -> bool:
    """Whether all of them have ended."""
    return all(process.poll() is not None for process in processes)


async def held_by(store: Store, process: subprocess.Popen[bytes]) -> int:
    """Messages the worker was granted and has not settled, at most."""
    total = 0
    async for name in store.client.scan_iter(store.keys.name("held", f"*.{process.pid}.*"), 1000):
        fields = await store.client.hgetall(name)
        total += sum(int(value) for field, value in fields.items() if not field.startswith(b"#"))
    return total


async def registered(store: Store, count: int) -> None:
    """Wait until so many workers have registered."""

    async def there() -> bool:
        return await store.inspector.workers() == count

    await until(there)
