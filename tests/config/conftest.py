from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dispatcher.config import Config, load


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., Config]:
    """Load a text as `dispatcher.toml`, with this environment and these flags."""

    def run(toml: str, environ: Mapping[str, str] | None = None, **flags: Any) -> Config:
        path = tmp_path / "dispatcher.toml"
        path.write_text(toml)
        dotted = {name.replace("__", "."): value for name, value in flags.items()}
        return load(path, environ or {}, dotted)

    return run
