"""What a run needs: store, simulator, API, two workers and Prometheus, all ended with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from benchmarks.dashboards.prometheus import Prometheus, prometheus
from benchmarks.dashboards.queries import GRAFANA
from benchmarks.processes import Child, api, running
from dispatcher.config import load
from dispatcher.store.embedded import EmbeddedStore
from dispatcher.store.opening import open_store

MEMORY = 256 * 1024 * 1024
"""The most the store may use, bytes: it shows up on a dashboard."""
TOKENS = {"acme": "token-of-acme", "shop": "token-of-shop"}
CONFIG = """
[store]
data_dir = "{folder}/store"
[worker]
lease = "3s"
[log]
level = "error"

[tenants.acme]
token = "token-of-acme"
weight = 2
[tenants.shop]
token = "token-of-shop"

[providers.twilio-eu]
kind = "twilio"
base_url = "{url}"
account_sid = "AC00000000000000000000000000000000"
auth_token = "00000000000000000000000000000000"
rate = "150/s"
[providers.gateway]
kind = "webhook"
url = "{url}/webhook/gateway"
rate = "100/s"
timeout = "2s"
on_unknown = "hold"
[providers.mail]
kind = "sendgrid"
base_url = "{url}"
api_key = "SG.00000000000000000000000000000000"
rate = "100/s"

[senders.brand]
twilio-eu = ["+15005550006"]
gateway = ["BRAND"]
mail = ["news@example.com"]

[carriers.de-telekom]
prefixes = ["+49151"]
rate = "40/s"

[[limits]]
name = "acme-per-carrier"
tenant = "acme"
each = "carrier"
rate = "60/s"

[[routes]]
channel = "sms"
providers = ["twilio-eu"]
[[routes]]
channel = "email"
providers = ["mail"]
[[routes]]
providers = ["gateway"]

[retry]
base = "500ms"
max = "3s"
"""
ACCOUNTS = {
    "accounts": [
        {"kind": "twilio", "latency": {"mean": 0.12, "jitter": 0.06, "shape": "lognormal"}},
        {"kind": "webhook", "name": "gateway", "latency": {"mean": 0.04, "jitter": 0.02}},
        {"kind": "sendgrid", "latency": {"mean": 0.2, "jitter": 0.1}},
    ],
    "seed": 1,
}
Faults = Sequence[dict[str, object]]


class Failed(Exception):
    """A command did not do what the run needs."""


class Stage:
    """Everything that runs, and what a load does to it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        (folder / "accounts.json").write_text(json.dumps(ACCOUNTS))
        simulator = stack.enter_context(
            running(
                "dispatcher", "simulator", "--port", "0", "--settings", f"{folder}/accounts.json"
            )
        )
        self.simulator = simulator.line().split()[-1]
        self.folder = folder
        self.config = folder / "dispatcher.toml"
        self.config.write_text(CONFIG.format(folder=folder, url=self.simulator))
        stack.enter_context(EmbeddedStore.join(folder / "store"))
        asyncio.run(self._bound_memory())
        self._api = stack.enter_context(api(self.config))
        self._ports = [free_port(), free_port()]
        self._workers: list[Child] = []
        stack.callback(self._end)
        for port in self._ports:
            self._workers.append(self._start(port))
        scraped = [*self._ports, self._api.port]
        self.prometheus: Prometheus = stack.enter_context(
            prometheus(folder, GRAFANA / "rules", free_port(), scraped)
        )

    @property
    def url(self) -> str:
        """Where the API listens."""
        return self._api.url.removesuffix("/v1/messages")

    def order(self, faults: Faults) -> None:
        """Have the simulated providers do these faults and no others."""
        body = json.dumps(faults).encode()
        with urlopen(Request(f"{self.simulator}/_/faults", body, method="PUT"), timeout=5):
            return

    async def dispatcher(self, *words: str) -> None:
        """Run a `dispatcher` command to its end. Raises Failed."""
        command = (sys.executable, "-m", "dispatcher", *words, "--config", str(self.config))
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, said = await process.communicate()
        if process.returncode:
            raise Failed(f"`dispatcher {words[0]}` has failed: {said.decode().strip()[-300:]}")

    def kill_worker(self) -> None:
        """End the first worker without warning."""
        os.kill(self._workers[0].pid, signal.SIGKILL)
        self._workers[0].end()

    def restart_worker(self) -> None:
        """Start the first worker again, on its port."""
        self._workers[0] = self._start(self._ports[0])

    def _start(self, port: int) -> Child:
        command = ("worker", "--config", str(self.config), "--port", str(port))
        return Child("dispatcher", *command)

    def _end(self) -> None:
        for worker in self._workers:
            worker.end()

    async def _bound_memory(self) -> None:
        async with open_store(load(self.config, {}).store) as store:
            await store.client.config_set("maxmemory", MEMORY)


@contextmanager
def stage() -> Iterator[Stage]:
    """All of it in a folder of its own. Raises ConfigError."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        yield Stage(stack, Path(name))


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
