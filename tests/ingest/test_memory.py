"""A file of any size goes through in constant memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 300_000
MOST_GROWTH = 25
"""MB between the first part and the last."""

PROGRAM = """
import resource, sys
from itertools import islice
from pathlib import Path
from dispatcher.cli.records import open_records
from dispatcher.config import load
from dispatcher.engine.ingest import Ingest, Submission
from dispatcher.engine.runtime import create_providers
from dispatcher.messages import Content, new_ulid

def peak():
    # Linux counts the parent before exec in ru_maxrss, but not in VmHWM.
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20

config = load(Path("dispatcher.toml"), {})
ingest = Ingest(config, create_providers(config))
opened = ingest.open(Submission("sms", "SHOP", Content("Hi {name}")), ["name"], new_ulid(1), 1)
accepted = first = begun = 0
with open(sys.argv[1], "rb") as file:
    items = open_records(file, sys.argv[1]).read(opened.names)
    while chunk := list(islice(items, 2000)):
        accepted += opened.part(first, [item.record for item in chunk]).accepted
        first += len(chunk)
        begun = begun or peak()
print(accepted, begun, peak())
"""


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "dispatcher.toml").write_text(
        '[providers.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\nrate = "5000/s"\n'
    )
    with (tmp_path / name).open("w") as file:
        if name.endswith("csv"):
            file.write("to,name\n")
            file.writelines(f"+4915{i:09d},Ann {i}\n" for i in range(ROWS))
        else:
            file.writelines(f'{{"to":"+4915{i:09d}","name":"Ann {i}"}}\n' for i in range(ROWS))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    accepted, begun, peak = map(int, done.stdout.split())
    assert accepted == ROWS
    assert peak < 120, "MB"
    assert peak - begun < MOST_GROWTH
