"""Runs the embedded store's server while anybody uses its directory, and not a moment longer.

Started as `python keeper.py DATA_DIR SERVER LOCK` in a session of its own, so that Ctrl-C in a
terminal reaches neither it nor its server. SIGTERM and SIGHUP do not end it either: whoever stops
a whole service at once still has a store to drain into; the keeper leaves with its last user.
Standard library only: it starts in some 50 ms whatever the process that needs it has loaded.

Who lives is told by kernel locks (flock) in the data directory, which end with their holder, even
on kill -9:

`users.lock`   shared by every process that uses the store; the keeper takes it alone to stop
`keeper.lock`  held by the one live keeper from before its first instruction; contains its pid
`server.lock`  inherited by the server: as long as one is up, no other starts in this directory
`start.lock`   held for an instant by whoever looks for a keeper or starts one

Beside them: `address` (path of the server's socket), `server.pid`, `store.log` (both write to it),
`appendfsync` (the setting of that name, for a server that is started again), `appendonlydir/` (the
data) and, where its path is short enough, the socket `store.sock`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PAUSE = 0.1
"""Seconds between two looks at the users and the server."""
FIRST_DELAY, LONGEST_DELAY = 0.1, 2.0
"""Seconds before a crashed server is started again; doubled from crash to crash."""
HEALTHY = 10.0
"""Seconds of life after which a crash counts as the first one again."""
STOP_TIMEOUT = 30.0
"""Seconds a server has to write its file and leave before it is killed."""
TAKEOVER_TIMEOUT = 10.0
"""Seconds to wait for the server of a keeper that was killed."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h
TEMPORARY_PREFIX = "dispatcher-store-"


class Files:
    """Where everything is in the data directory of an embedded store."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.users = data_dir / "users.lock"
        self.keeper = data_dir / "keeper.lock"
        self.server = data_dir / "server.lock"
        self.start = data_dir / "start.lock"
        self.server_pid = data_dir / "server.pid"
        self.address = data_dir / "address"
        self.log = data_dir / "store.log"
        self.socket = data_dir / "store.sock"
        self.appendfsync = data_dir / "appendfsync"


def open_lock(path: Path) -> int:
    """Descriptor of a lock file, made if absent, not inherited. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def try_lock(lock: int, operation: int) -> bool:
    """Take a lock (`fcntl.LOCK_SH` or `LOCK_EX`) if that is possible at once."""
    try:
        fcntl.flock(lock, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_lock(lock: int, operation: int, deadline: float) -> bool:
    """Take a lock; False when `deadline` (of the monotonic clock) passes first."""
    while not try_lock(lock, operation):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def ask(address: str, command: str = "PING") -> str:
    """The server's reply to an inline command, empty if none comes within a second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(address)
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(65536).decode(errors="replace")
        except OSError:
            return ""


def remove_socket(address: str) -> None:
    """Remove a socket and the temporary directory made for it, if there is one."""
    path = Path(address)
    path.unlink(missing_ok=True)
    if path.parent.name.startswith(TEMPORARY_PREFIX):
        path.parent.rmdir()


def read_pid(path: Path) -> int | None:
    """The process id in a file, None when there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def read_appendfsync(files: Files) -> str:
    """When the server writes through to the disk, as its users want it."""
    try:
        return "always" if files.appendfsync.read_text() == "always" else "everysec"
    except OSError:
        return "everysec"


class Keeper:
    """Owns the server of one data directory. Raises OSError where that cannot be used."""

    def __init__(self, files: Files, program: str) -> None:
        self._files = files
        self._program = program
        self._users = open_lock(files.users)
        self._address = _free_address(files)

    def run(self) -> int:
        """Keep the server up until its last user has left. The exit code: 1 if it never came up."""
        self._files.address.write_text(self._address)
        try:
            return self._serve()
        finally:
            self._files.address.unlink(missing_ok=True)
            remove_socket(self._address)

    def _serve(self) -> int:
        server, started = self._start(), time.monotonic()
        answered, delay = False, FIRST_DELAY
        while not try_lock(self._users, fcntl.LOCK_EX):
            time.sleep(PAUSE)
            if server.poll() is None:
                answered = answered or ask(self._address).startswith("+PONG")
                continue
            if not answered and server.returncode > 0:
                return 1  # it gave up by itself: the next one would, too
            if time.monotonic() - started > HEALTHY:
                delay = FIRST_DELAY
            log(f"server {server.pid} {_ending(server.returncode)}, next start in {delay:g} s")
            time.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)
            server, started = self._start(), time.monotonic()
        _stop(server)
        return 0

    def _start(self) -> subprocess.Popen[bytes]:
        lock = open_lock(self._files.server)
        try:
            self._wait_for_predecessor(lock)
            self._files.server_pid.unlink(missing_ok=True)
            return subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                env=os.environ | {"LC_ALL": "C"},  # it refuses to start in a locale not installed
                pass_fds=(lock,),
                preexec_fn=_die_with_keeper(),
            )
        finally:
            os.close(lock)

    def _wait_for_predecessor(self, lock: int) -> None:
        """A server whose keeper was killed dies with it on Linux; elsewhere it is told to."""
        if try_lock(lock, fcntl.LOCK_EX):
            return
        predecessor = read_pid(self._files.server_pid)
        if sys.platform != "linux" and predecessor is not None:
            os.kill(predecessor, signal.SIGTERM)
        if not wait_lock(lock, fcntl.LOCK_EX, time.monotonic() + TAKEOVER_TIMEOUT):
            raise TimeoutError(f"server {predecessor} of an earlier keeper does not leave")

    def _command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": self._address,
            "unixsocketperm": "600",
            "dir": str(self._files.data_dir),
            "pidfile": str(self._files.server_pid),
            "appendonly": "yes",
            "appendfsync": read_appendfsync(self._files),
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [self._program, *(word for k, v in settings.items() for word in (f"--{k}", v))]


def _free_address(files: Files) -> str:
    """A path a server can listen on: socket paths are limited to some 100 bytes, and some file
    systems hold no sockets."""
    if _holds_sockets(files.data_dir):
        return str(files.socket)
    for base in (tempfile.gettempdir(), "/tmp"):
        directory = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=base))
        if _holds_sockets(directory):
            return str(directory / files.socket.name)
        directory.rmdir()
    raise OSError("no directory for the server's socket")


def _holds_sockets(directory: Path) -> bool:
    probe = directory / f".probe-{os.getpid():010}"  # longer than the real name: leaves a margin
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(probe))
    except OSError:
        return False
    probe.unlink()
    return True


def _die_with_keeper() -> Callable[[], None] | None:
    """What a new server does before it becomes one, so that it never outlives its keeper.

    SIGKILL, because it cannot be put off by a busy server. Nothing acknowledged is lost: replies
    leave only after the kernel has the write.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    keeper = os.getpid()

    def tie() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)

    return tie


def _ending(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        log(f"server {server.pid} did not stop in {STOP_TIMEOUT:g} s and was killed")
        server.kill()
        server.wait()


def log(text: str) -> None:
    """One warning in the server's own format: `PID:K DATE # TEXT`."""
    line = f"{os.getpid()}:K {time.strftime('%d %b %Y %H:%M:%S.000')} # {text}\n"
    with suppress(OSError):  # a full disk must not end the keeper
        os.write(1, line.encode())


def main(data_dir: str, program: str, lock: str) -> int:
    """The keeper process. `lock` is the descriptor of `keeper.lock`, locked by who started it."""
    if os.fork():
        return 0  # nobody's child: leaves no zombie behind in the process that needed a store
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    os.umask(0o077)
    held = int(lock)
    os.truncate(held, 0)
    os.pwrite(held, str(os.getpid()).encode(), 0)
    try:
        return Keeper(Files(Path(data_dir)), program).run()
    except OSError as error:
        log(str(error))
        return 1
    finally:
        os.close(held)  # before users.lock: who may join must find no keeper, or a live one


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
