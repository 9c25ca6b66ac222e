"""The containers of the development overlay, run as processes with their command, environment,
user and read-only root: probes answer, SIGTERM drains within the grace period, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest

from dispatcher.settings import StoreConfig
from dispatcher.simulator import Latency, Settings, Simulator, TwilioAccount
from dispatcher.store.embedded import find_server
from dispatcher.store.opening import Store, open_store
from tests.campaign import until
from tests.k8s.confinement import confined
from tests.k8s.rendered import KUBECTL, PROGRAM, ROOT, SECRETS, Started, as_process, named
from tests.ports import free_port

pytestmark = KUBECTL
PORTS = {"http": "DISPATCHER__API__PORT", "metrics": "DISPATCHER__WORKER__PORT"}
MESSAGES = 500


class Cluster:
    """The store and the simulator of the overlay on this machine, and its containers."""

    def __init__(self, folder: Path, confine: bool, store: int, simulator: Simulator) -> None:
        self.folder, self.confine, self.simulator = folder, confine, simulator
        self.store_port = store
        self.provider = ""

    def container(self, deployment: str) -> Started:
        """A container whose services are on loopback."""
        started = as_process("dev", deployment, self.folder)
        config = Path(started.env["DISPATCHER_CONFIG"])
        text = config.read_text()
        for name, here in (
            ("redis://dispatcher-store:6379", f"redis://127.0.0.1:{self.store_port}"),
            ("http://dispatcher-simulator:8900", self.provider),
        ):
            assert name in text
            text = text.replace(name, here)
        config.write_text(text)
        return started

    @contextmanager
    def run(self, started: Started, port: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        """The process and its base URL, on a free port of this machine."""
        free = free_port()
        command = list(started.command)
        if self.confine:
            command = confined(command, started.user, self.folder / "tmp")
        process = subprocess.Popen(
            command,
            cwd="/",
            env=environment(started) | {PORTS[port]: str(free)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield process, f"http://127.0.0.1:{free}"
        finally:
            process.kill()
            process.communicate()

    async def submit(self, started: Started) -> str:
        """Accept a file of messages, as `kubectl exec` would; the batch."""
        rows = "\n".join(["to", *(f"+4915{number:09d}" for number in range(MESSAGES)), ""])
        words = ("send", "-", "--channel", "sms", "--from", "shop", "--text", "Hi")
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, *words, env=environment(started), stdin=-1, stdout=-1, stderr=-1
        )
        out, err = await process.communicate(rows.encode())
        assert out.decode() == f"{MESSAGES} accepted, 0 rejected\n", err.decode()
        (batch,) = re.findall(r"^batch (\w+)", err.decode(), re.MULTILINE)
        return str(batch)


def environment(started: Started) -> dict[str, str]:
    """Nothing of ours but what finds the interpreter and the package."""
    kept = {name: os.environ[name] for name in ("PATH", "VIRTUAL_ENV") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | started.env


@pytest.fixture
async def cluster(tmp_path: Path, confinable: bool) -> AsyncIterator[Cluster]:
    account = TwilioAccount(auth_token=SECRETS["TWILIO_AUTH_TOKEN"], latency=Latency(0.3))
    simulator = Simulator(Settings((account,)))
    with valkey(tmp_path) as port:
        cluster = Cluster(tmp_path, confinable, port, simulator)
        cluster.provider = await simulator.start()
        yield cluster
        await simulator.stop()


@contextmanager
def valkey(folder: Path) -> Iterator[int]:
    """The store of the overlay, with the very options of its container; its port."""
    (container,) = named("dev", "StatefulSet", "dispatcher-store")["spec"]["template"]["spec"][
        "containers"
    ]
    program, *options = container["command"]
    assert program == "valkey-server"
    data, port = folder / "data", free_port()
    data.mkdir()
    options = [option.replace("--dir /data", f"--dir {data}") for option in options]
    with (folder / "store.log").open("wb") as log:
        process = subprocess.Popen(
            [find_server(), *options, f"--port {port}", "--bind 127.0.0.1"], stdout=log, stderr=log
        )
    try:
        yield port
        assert (data / "appendonlydir").is_dir()
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def opened(cluster: Cluster) -> AsyncIterator[Store]:
    async with open_store(StoreConfig(url=f"redis://127.0.0.1:{cluster.store_port}/0")) as store:
        yield store


async def probed(started: Started, url: str) -> None:
    """Wait until every probe of the container has its answer."""
    probes = (started.container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe"))
    paths = [probe["path"] for probe in probes]
    assert len(paths) == 2

    async def answered() -> bool:
        try:
            async with aiohttp.ClientSession(url) as client:
                return all([(await client.get(path)).status == 200 for path in paths])
        except aiohttp.ClientConnectionError:
            return False

    await until(answered)


async def test_a_worker_drains_within_its_grace_period(cluster: Cluster) -> None:
    started = cluster.container("dispatcher-worker")
    batch = await cluster.submit(started)
    with cluster.run(started, "metrics") as (process, url):
        await probed(started, url)

        async def in_the_middle() -> bool:
            return len(cluster.simulator.journal) > 40

        await until(in_the_middle)
        began = time.monotonic()
        process.terminate()
        _, err = await asyncio.to_thread(process.communicate, timeout=started.grace)
        assert process.returncode == 0, err.decode()
        assert time.monotonic() - began < started.grace
    arrived = [entry.to for entry in cluster.simulator.journal.entries()]
    assert 40 < len(arrived) == len(set(arrived)) < MESSAGES
    async with opened(cluster) as store:
        view = await store.inspector.batch(batch)
        assert view is not None
        assert view.counts["sent"] == len(arrived)
        assert view.counts["queued"] + view.counts["scheduled"] == MESSAGES - len(arrived)
        assert await store.inspector.workers() == 0


async def test_the_api_takes_calls_and_ends_within_its_grace_period(cluster: Cluster) -> None:
    started = cluster.container("dispatcher-api")
    body = {
        "channel": "sms",
        "from": "shop",
        "content": {"text": "Hi"},
        "recipients": [{"to": "+4915112345601"}],
    }
    with cluster.run(started, "http") as (process, url):
        await probed(started, url)
        login = {"Authorization": f"Bearer {SECRETS['ACME_TOKEN']}"}
        async with (
            aiohttp.ClientSession(url, headers=login) as client,
            client.post("/v1/messages", json=body) as answer,
        ):
            assert answer.status == 202
        process.terminate()
        _, err = await asyncio.to_thread(process.communicate, timeout=started.grace)
        assert process.returncode == 0, err.decode()


async def test_the_health_check_of_the_image(cluster: Cluster) -> None:
    started = cluster.container("dispatcher-worker")
    (check,) = re.findall(r'CMD \["python", "-c", "(.*)"\]', (ROOT / "Dockerfile").read_text())
    with cluster.run(started, "metrics") as (process, url):
        await probed(started, url)

        async def code() -> int:
            env = {"HEALTH_URL": f"{url}/healthz"}
            checking = await asyncio.create_subprocess_exec(
                PROGRAM[0], "-c", check, env=env, stderr=asyncio.subprocess.DEVNULL
            )
            return await checking.wait()

        assert await code() == 0
        process.kill()
        process.wait()
        assert await code() != 0


def test_the_root_is_read_only_and_the_user_has_no_rights(confinable: bool, tmp_path: Path) -> None:
    if not confinable:
        pytest.skip("needs root, mount namespaces and setpriv: containers ran as plain processes")
    tmp = tmp_path / "tmp"
    script = f"id -u; touch /x {ROOT}/x 2>&1; touch {tmp}/x && echo written; chown 0 {tmp}/x 2>&1"
    run = subprocess.run(
        confined(["sh", "-c", script], 10001, tmp), capture_output=True, text=True, timeout=30
    )
    user, *refused, written, owner = run.stdout.splitlines()
    assert (user, written) == ("10001", "written")
    assert len(refused) == 2 and all("Read-only file system" in line for line in refused)
    assert "Operation not permitted" in owner
