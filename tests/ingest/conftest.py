from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.config import load
from dispatcher.engine.ingest import Ingest, OpenBatch, Submission
from dispatcher.engine.runtime import create_providers
from dispatcher.messages import Content, new_ulid


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[[str], Ingest]:
    """What checks submissions against a configuration; no store is needed."""

    def build(toml: str) -> Ingest:
        path = tmp_path / "dispatcher.toml"
        path.write_text(toml)
        config = load(path, {})
        return Ingest(config, create_providers(config))

    return build


@pytest.fixture
def batch(ingest: Callable[[str], Ingest]) -> Callable[..., OpenBatch]:
    """A batch of SMS "Hi {name}" under a configuration."""

    def open_batch(toml: str, **options: object) -> OpenBatch:
        given = {"channel": "sms", "sender": "SHOP", "content": Content("Hi {name}")} | options
        return ingest(toml).open(Submission(**given), ["name"], new_ulid(1), 1_000_000)

    return open_batch
