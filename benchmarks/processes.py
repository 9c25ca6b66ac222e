"""The programs of a benchmark: each is started, watched and ended here."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
END_SECONDS = 30.0
"""How long a program may take to end after it was told to."""
START_SECONDS = 30.0


class Usage(NamedTuple):
    """What a program has used: seconds of CPU time, and the most resident memory in MB."""

    cpu_seconds: float
    peak_rss_mb: float


class Child:
    """A Python module run as a program of its own."""

    def __init__(self, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
        )
        self._name = " ".join([module, *arguments[:1]])
        self.pid = self._process.pid
        self.usage = Usage(0.0, 0.0)

    def check(self) -> None:
        """End the benchmark if this program has ended."""
        if self._process.poll() is not None:
            raise SystemExit(f"{self._name} has ended with {self._process.returncode}")

    def line(self) -> str:
        """The next line it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if not line:
            raise SystemExit(f"{self._name} has ended early")
        return line.strip()

    def ask(self, question: str = "") -> str:
        """Write a line to it; the line it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n".encode())
        self._process.stdin.flush()
        return self.line()

    def finish(self) -> list[str]:
        """Close its stdin; what it prints then, to its end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        return self._process.stdout.read().decode().splitlines()

    def end(self) -> Usage:
        """Tell it to end and wait until it has, at last by force."""
        if self._process.returncode is None:
            peak = _peak_rss_mb(self.pid)
            os.kill(self.pid, signal.SIGTERM)  # Popen would reap it here if it has ended
            used = self._wait()
            self.usage = Usage(used.ru_utime + used.ru_stime, peak or _in_mb(used.ru_maxrss))
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return self.usage

    def _wait(self) -> resource.struct_rusage:
        deadline = time.monotonic() + END_SECONDS
        while True:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                return used
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)


@contextmanager
def running(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """A program that ends with the block; `usage` of it is known after that."""
    child = Child(module, *arguments, env=env)
    try:
        yield child
    finally:
        child.end()


class Sink(NamedTuple):
    """A running sink. `ca_file` None is plain HTTP."""

    child: Child
    port: int
    ca_file: str | None

    @property
    def origin(self) -> str:
        """What a URL of it starts with."""
        scheme, host = ("https", "localhost") if self.ca_file else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.port}"

    def messages(self) -> int:
        """How many it has answered."""
        return int(self.child.ask())

    def requests(self) -> int:
        """In how many requests those came."""
        return int(self.child.ask("requests"))

    def stamps(self) -> int:
        """How many messages it has stamped."""
        return int(self.child.ask("stamps"))

    def sample(self) -> bytes:
        """The longest request it has seen."""
        return b64decode(self.child.ask("sample"))

    def finish(self) -> dict[int, int]:
        """End it; number → time of every stamped message, in ns of the monotonic clock."""
        pairs = (line.split() for line in self.child.finish())
        return {int(number): int(at) for number, at in pairs}


@contextmanager
def sink(*arguments: str, certificate: str | None = None) -> Iterator[Sink]:
    """A sink with these options of `benchmarks.sink`."""
    tls = ("--tls", certificate) if certificate else ()
    with running("benchmarks.sink", *arguments, *tls) as child:
        yield Sink(child, int(child.line()), certificate)


@contextmanager
def worker(config: Path, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """One `dispatcher worker` process."""
    with running("dispatcher", "worker", "--config", str(config), env=env) as child:
        yield child


class Api(NamedTuple):
    """A running `dispatcher api`."""

    child: Child
    port: int

    @property
    def url(self) -> str:
        """Where messages are submitted."""
        return f"http://127.0.0.1:{self.port}/v1/messages"


@contextmanager
def api(config: Path) -> Iterator[Api]:
    """An API that is ready to take calls."""
    with running("dispatcher", "api", "--port", "0", "--config", str(config)) as child:
        found = Api(child, int(child.line().rpartition(":")[2]))
        _until_ready(f"http://127.0.0.1:{found.port}/readyz")
        yield found


def _until_ready(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"the API does not become ready: {error}") from None
        time.sleep(0.05)


NGINX = """
daemon off; master_process off; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; default_type application/json;
  server {{ listen 127.0.0.1:{port}; location / {{ return 201 '{{"sid":"SM0"}}'; }} }}
}}
"""


def find_nginx() -> str | None:
    """The program, which distributions keep where only root looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(program: str, folder: Path) -> Iterator[int]:
    """nginx, one process, as a sink; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, port=port))
    command = [program, "-e", "stderr", "-p", str(folder), "-c", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _until_listening(process, port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("nginx does not start")


def allow_files(needed: int) -> bool:
    """Raise the limit of open files of this process and its children, as far as allowed; whether
    it is enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        soft = needed if hard == unlimited else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft == unlimited or soft >= needed


def _peak_rss_mb(pid: int) -> float | None:
    """What wait4 says includes the memory of the parent before exec; the kernel's table does not,
    where there is one."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def _in_mb(maxrss: int) -> float:
    return maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
