"""`python -m dispatcher.cli.demo_child FOLDER COMMAND …`: a command that ends with the demo.

Its stdin is a pipe from the demo, which nobody writes to. When the pipe closes the demo is gone,
however it ended, kill -9 included: the command then ends as after SIGTERM, and the demo's folder
is removed once its store has stopped.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from dispatcher.cli.main import main
from dispatcher.store.keeper import Files, open_lock, wait_lock

STORE = "store"
"""The store's data directory inside the demo's folder."""
STOP_SECONDS = 40.0


def _run(folder: Path, command: list[str]) -> int:
    orphaned = threading.Event()
    threading.Thread(target=_watch, args=(orphaned,), daemon=True).start()
    code = main(command)
    if orphaned.is_set():
        _clear(folder)
    return code


def _watch(orphaned: threading.Event) -> None:
    os.read(sys.stdin.fileno(), 1)
    orphaned.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _clear(folder: Path) -> None:
    """Remove what the demo left, once the keeper has stopped the store and let go of its lock."""
    with suppress(OSError):
        lock = open_lock(Files(folder / STORE).keeper)
        try:
            wait_lock(lock, fcntl.LOCK_EX, time.monotonic() + STOP_SECONDS)
        finally:
            os.close(lock)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(_run(Path(sys.argv[1]), sys.argv[2:]))
