"""The embedded store writes through to the disk as its configuration says, and comes back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import redis

from dispatcher.settings import StoreConfig
from dispatcher.store.embedded import EmbeddedStore
from dispatcher.store.opening import open_store
from tests.campaign import until


def setting(store: EmbeddedStore) -> str:
    with redis.Redis.from_url(store.url, decode_responses=True) as client:
        return str(client.config_get("appendfsync")["appendfsync"])


def test_the_last_user_decides(tmp_path: Path) -> None:
    with EmbeddedStore.join(tmp_path / "data") as store:
        assert setting(store) == "everysec"
        with EmbeddedStore.join(tmp_path / "data", appendfsync="always"):
            assert setting(store) == "always"
        first = store.server_pid()
        assert first is not None
        os.kill(first, signal.SIGKILL)
        while store.server_pid() in (None, first):
            pass
        store.ensure()
        assert setting(store) == "always"


async def test_it_is_started_again_when_its_keeper_is_killed(tmp_path: Path) -> None:
    config = StoreConfig(data_dir=str(tmp_path / "data"), confirm="disk", appendfsync="always")
    async with open_store(config) as store:
        await store.client.set("key", "value")
        keeper = int((tmp_path / "data" / "keeper.lock").read_text())
        os.kill(keeper, signal.SIGKILL)

        async def back() -> bool:
            try:
                return bool(await store.client.get("key") == b"value" and other())
            except (redis.exceptions.ConnectionError, OSError):
                return False

        def other() -> bool:
            return (tmp_path / "data" / "keeper.lock").read_text() != str(keeper)

        await until(back)
