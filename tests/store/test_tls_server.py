"""A store over TLS works like any other: `rediss://` with a certificate authority of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.settings import StoreConfig
from dispatcher.store.opening import open_store
from tests.ports import free_port
from tests.store.cell import Cell

CERTIFICATES = Path(__file__).parent.parent / "transport" / "certificates"
SERVER = shutil.which("redis-server")


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    if SERVER is None:
        pytest.skip("needs redis-server with TLS (Debian: redis-server)")
    port = free_port()
    own = CERTIFICATES / "localhost.pem"
    server = subprocess.Popen(
        [SERVER, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "",
         "--tls-cert-file", own, "--tls-key-file", own, "--tls-auth-clients", "no",
         "--tls-ca-cert-file", CERTIFICATES / "authority.pem", "--dir", tmp_path],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait()


async def test_a_store_over_tls(tls_port: int) -> None:
    url = f"rediss://localhost:{tls_port}"
    async with open_store(
        StoreConfig(url=url, tls_ca=str(CERTIFICATES / "authority.pem"))
    ) as store:
        cell = Cell(store)
        await cell.limit("provider:p")
        await cell.worker("w1")
        assert (await cell.claim("w1")).grants == []


async def test_a_server_nobody_vouches_for_is_refused(tls_port: int) -> None:
    config = StoreConfig(url=f"rediss://localhost:{tls_port}")
    with pytest.raises(StoreUnavailable, match="certificate"):
        async with open_store(config, patience=0.2):
            pass
