"""Fixtures of all tests: a real store, a simulator, configurations.

The store is one embedded server per test process, or the one that TEST_STORE_URL names; each test
has a key prefix of its own there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from dispatcher.config import Config, load
from dispatcher.settings import StoreConfig
from dispatcher.simulator import Simulator
from dispatcher.store.embedded import EmbeddedStore
from dispatcher.store.opening import Store, open_store
from tests.campaign import Campaign

# Tests start the commands hundreds of times, which need not compile them each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LONGEST = (
    "test_readme.py",
    "test_benchmarks.py",
    "test_failpoints.py",
    "test_demo.py",
    "test_crew.py",
    "test_recipient_pairs.py",
)
"""Files that take 15 seconds and more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that the processes of a run end at about the same time."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreConfig]:
    """How to reach the server of this test process."""
    if url := os.environ.get("TEST_STORE_URL"):
        yield StoreConfig(url=url)
        return
    data_dir = tmp_path_factory.mktemp("store")
    with EmbeddedStore.join(data_dir):
        yield StoreConfig(data_dir=str(data_dir))


@pytest.fixture
def store_config(store_server: StoreConfig) -> StoreConfig:
    return replace(store_server, prefix=f"t{uuid4().hex[:12]}")


@pytest.fixture
async def store(store_config: StoreConfig) -> AsyncIterator[Store]:
    async with open_store(store_config) as store:
        yield store
        names = [name async for name in store.client.scan_iter(f"{store_config.prefix}*", 1000)]
        if names:
            await store.client.delete(*names)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    simulator = Simulator()
    yield simulator
    await simulator.stop()


@pytest.fixture
async def simulator_url(simulator: Simulator) -> str:
    return await simulator.start()


@pytest.fixture
def config_file(tmp_path: Path, store_config: StoreConfig) -> Callable[[str], Path]:
    """Write a configuration that uses the store of this test."""

    def write(toml: str) -> Path:
        store = {"url": store_config.url, "prefix": store_config.prefix}
        if store_config.url == "embedded":
            store["data_dir"] = store_config.data_dir
        lines = (f'{key} = "{value}"' for key, value in store.items())
        path = tmp_path / "dispatcher.toml"
        path.write_text("\n".join(["[store]", *lines, toml]))
        return path

    return write


@pytest.fixture
def configure(config_file: Callable[[str], Path]) -> Callable[[str], Config]:
    """The configuration that a text describes, with the store of this test."""
    return lambda toml: load(config_file(toml), {})


@pytest.fixture
def campaign(
    configure: Callable[[str], Config], store: Store, simulator: Simulator
) -> Callable[[str], Campaign]:
    """A campaign with the configuration that a text describes."""
    return lambda toml: Campaign(configure(toml), store, simulator)
