"""Sentinel and a cluster over TLS, where servers are known by the names in their certificates."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.settings import StoreConfig
from dispatcher.store.opening import open_store
from tests.campaign import until
from tests.faults.nodes import QUICK, SLOTS, nodes
from tests.ports import free_port
from tests.store.cell import OWN, Cell

CERTIFICATES = Path(__file__).parent.parent / "transport" / "certificates"
AUTHORITY = str(CERTIFICATES / "authority.pem")
CLIENT = {"host": "localhost", "ssl": True, "ssl_ca_certs": AUTHORITY}
LINES = (
    f"tls-cert-file {CERTIFICATES / 'localhost.pem'}",
    f"tls-key-file {CERTIFICATES / 'localhost.pem'}",
    f"tls-ca-cert-file {AUTHORITY}",
    "tls-auth-clients no",
    "tls-replication yes",
)


@pytest.fixture
def program() -> str:
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("needs redis-server with TLS (Debian: redis-server)")
    return found


async def assert_works(url: str) -> None:
    config = StoreConfig(url=url, tls_ca=AUTHORITY)
    async with open_store(config) as store:
        cell = Cell(store)
        await cell.limit(OWN)
        await cell.worker("w1")
        assert (await cell.claim("w1")).grants == []
    with pytest.raises(StoreUnavailable, match="certificate"):
        async with open_store(StoreConfig(url=url), patience=0.2):
            pass


async def test_sentinel_over_tls(tmp_path: Path, program: str) -> None:
    async with nodes(tmp_path, **CLIENT) as running:
        master = await running.start(program, *QUICK, *LINES)
        sentinel = await running.sentinel(program, master, *LINES, host="localhost")
        await assert_works(f"rediss+sentinel://localhost:{sentinel.port}/mymaster")


async def test_a_cluster_over_tls(tmp_path: Path, program: str) -> None:
    async with nodes(tmp_path, **CLIENT) as running:
        node = await running.start(
            program,
            *QUICK,
            *LINES,
            f"cluster-port {free_port()}",
            "cluster-enabled yes",
            "tls-cluster yes",
            "cluster-announce-hostname localhost",
            "cluster-preferred-endpoint-type hostname",
        )
        await node.ask("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)

        async def ready() -> bool:
            return b"cluster_state:ok" in await node.ask("CLUSTER", "INFO")

        await until(ready)
        await assert_works(f"rediss+cluster://localhost:{node.port}")
