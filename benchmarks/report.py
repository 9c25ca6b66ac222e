"""Report: writes the tables in benchmarks/README.md anew from the kept results.

A table stands between `<!-- NAME -->` and `<!-- end -->`; all else on the page is left alone, and
so is a table without results.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from benchmarks import (
    chaos,
    durability,
    idle,
    ingest,
    latency,
    machine,
    memory,
    throughput,
    transport,
)
from benchmarks.figures import markdown

README = Path(__file__).parent / "README.md"
MEASURED = (throughput, transport, ingest, latency, memory, idle, durability, chaos)


def main(args: list[str]) -> None:
    """Command line of the report."""
    parser = argparse.ArgumentParser(prog="./run bench report", description=__doc__)
    parser.add_argument("--page", type=Path, default=README)
    page = parser.parse_args(args).page
    texts = {name: markdown(table) for each in MEASURED for name, table in each.tables().items()}
    if found := machine.saved("throughput-single"):
        texts["machine"] = _machine(found["throughput-single"]["conditions"])
    page.write_text(_filled(page.read_text(), texts))
    print(f"{page.name}: {', '.join(texts) or 'no results are kept'}")


def _filled(page: str, texts: dict[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        text = texts.get(match["name"])
        return match[0] if text is None else f"<!-- {match['name']} -->\n{text}\n<!-- end -->"

    return re.sub(r"<!-- (?P<name>[\w-]+) -->\n.*?<!-- end -->", fill, page, flags=re.DOTALL)


def _machine(found: dict[str, Any]) -> str:
    return (
        f"{found['cores']} cores of an {found['cpu']}, {found['system']}, Python "
        f"{found['python']}; Valkey {found['server']} ({found['allocator']} allocator), "
        f"append-only file: {found['append_only_file']}."
    )
