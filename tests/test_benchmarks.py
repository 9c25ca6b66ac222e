"""Every benchmark runs, very small, as `./run bench NAME` would run it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bare, certificate, figures, processes
from benchmarks.scenarios import SCENARIOS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "benchmarks/README.md"
MARK = re.compile(r"<!-- ([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
TLS = pytest.mark.skipif(not certificate.can_create(), reason="needs the openssl command")
PNG = b"\x89PNG"


def bench(results: Path, *args: str, code: int = 0) -> str:
    """What a benchmark prints; its results are kept in a folder of the test."""
    command = [sys.executable, "-m", "benchmarks", "--results", str(results), *args]
    process = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == code, process.stderr
    return process.stdout + process.stderr


def kept(results: Path, name: str) -> Any:
    """A result, with the conditions that all of them name."""
    found = json.loads((results / f"{name}.json").read_text())
    assert found["conditions"]["cores"] == os.cpu_count()
    return found


@pytest.fixture(scope="module")
def throughput(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Results of every scenario that this machine can run, and what was printed."""
    results = tmp_path_factory.mktemp("throughput")
    options = ("--scenario", "all", "--messages", "2000", "--runs", "1")
    return results, bench(results, "throughput", *options)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the memory benchmark."""
    results = tmp_path_factory.mktemp("memory")
    bench(results, "memory", "--messages", "2000", "--calls", "2")
    return results


@pytest.mark.parametrize(
    "name", [name if name != "tls" else pytest.param(name, marks=TLS) for name in SCENARIOS]
)
def test_throughput_of_a_scenario(name: str, throughput: tuple[Path, str]) -> None:
    results, printed = throughput
    assert f"{name}: {SCENARIOS[name].what}" in printed
    found = kept(results, f"throughput-{name}")
    assert found["conditions"]["append_only_file"] == "everysec"
    (run,) = found["runs"]
    single = kept(results, "throughput-single")["runs"][0]
    assert run["to_single"] == run["sent_per_second"] / single["sent_per_second"]
    assert run["to_bare"] == run["sent_per_second"] / run["bare_per_second"] > 0
    assert run["worker_peak_rss_mb"] > 10
    many = name in ("webhook", "sendgrid")
    assert run["messages_per_request"] >= 100 if many else run["messages_per_request"] == 1


def test_more_open_files_than_allowed_are_no_crash() -> None:
    code = (
        "import resource; from benchmarks.processes import allow_files; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256)); "
        "print(allow_files(200), resource.getrlimit(resource.RLIMIT_NOFILE)[0], allow_files(300))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["True", "200", "False"]


def test_transport(tmp_path: Path) -> None:
    bench(tmp_path, "transport", "--requests", "600", "--rounds", "1", "--concurrency", "16")
    plain = kept(tmp_path, "transport")["plain"]
    assert plain["summary"]["lean_to_bare"]["median"] > 0


def test_ingest(tmp_path: Path) -> None:
    bench(tmp_path, "ingest", "--recipients", "2000", "--calls", "100", "--runs", "1")
    summary = kept(tmp_path, "ingest")["summary"]
    ways = ("direct_per_second", "file_per_second", "many_per_second", "one_per_second")
    assert all(summary[way]["low"] > 0 for way in ways)


def test_latency(tmp_path: Path) -> None:
    bench(
        tmp_path, "latency", "--bulk", "20000", "--rate", "1000", "--seconds", "1",
        "--settle", "0.2", "--urgent", "20", "--processes", "1", "2",
    )  # fmt: skip
    found = kept(tmp_path, "latency")["processes"]
    assert list(found) == ["1", "2"]
    for phase in found.values():
        assert len(phase["values"]["arrival"]) == phase["urgent"] == 20
        assert phase["summary"]["arrival"]["max"] >= phase["summary"]["wait"]["max"] >= 0
        assert phase["lane_per_second"] > 0


def test_a_backlog_that_runs_out_is_no_result(tmp_path: Path) -> None:
    printed = bench(
        tmp_path, "latency", "--bulk", "100", "--seconds", "0.5", "--settle", "0.2",
        "--processes", "1", code=1,
    )  # fmt: skip
    assert "use more --bulk" in printed
    assert not (tmp_path / "latency.json").exists()


def test_memory(memory: Path) -> None:
    summary = kept(memory, "memory")["summary"]
    assert all(summary[name]["low"] > 0 for name in ("queued_bytes", "settled_bytes"))
    assert summary["worker_peak_rss_mb"]["low"] > 10 < summary["api_peak_rss_mb"]["low"]


@LINUX
def test_idle(tmp_path: Path) -> None:
    bench(tmp_path, "idle", "--seconds", "2", "--settle", "0.2")
    worker = kept(tmp_path, "idle")["worker"]
    assert worker["commands_per_second"] > 0 < worker["cpu_percent"]
    assert worker["inside"]


def test_the_report_fills_the_marks_of_the_page(memory: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- memory -->\nold\n<!-- end -->\n<!-- idle -->\nkept\n<!-- end -->\n"
    )
    bench(memory, "report", "--page", str(page))
    found = dict(MARK.findall(page.read_text()))
    assert found["memory"].startswith("| figure | median (lowest to highest) |\n| --- | --- |\n")
    assert found["idle"] == "kept\n"


def test_the_page_has_a_mark_for_every_table() -> None:
    marks = {name for name, _ in MARK.findall(PAGE.read_text())}
    wanted = {"machine", "throughput", "throughput-single", "transport", "ingest", "latency"}
    assert wanted | {"memory", "idle", "chaos"} <= marks


def test_durability(tmp_path: Path) -> None:
    small = ("--calls", "50", "--many", "2", "--alone", "2", "--runs", "1")
    printed = bench(tmp_path, "durability", "--mode", "always, disk", *small)
    assert "always, disk" in printed
    (measured,) = kept(tmp_path, "durability")["modes"].values()
    assert all(figure["low"] > 0 for figure in measured.values())


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the extra bench")
def test_plots(memory: Path) -> None:
    bench(memory, "plot")
    assert (memory / "memory.png").read_bytes().startswith(PNG)


@pytest.mark.skipif(find_spec("matplotlib") is not None, reason="matplotlib is installed")
def test_plots_without_matplotlib(tmp_path: Path) -> None:
    printed = bench(tmp_path, "plot", code=1)
    assert printed.splitlines() == ['plot: matplotlib is missing (pip install "dispatcher[bench]")']


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    assert "no benchmark 'speed'" in bench(tmp_path, "speed", code=2)


def test_a_sink_counts_messages_requests_and_stamps() -> None:
    body = b'{"to":1,"to":2,"code":"n-000042"}'
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with processes.sink("--count", '"to":', "--stamp", "n-") as sink:
        with socket.create_connection(("127.0.0.1", sink.port)) as client:
            wire = (head + body) * 3
            half = len(wire) // 2
            client.sendall(wire[:half])
            answers = client.recv(4096)  # the second request has come in part by now
            client.sendall(wire[half:])
            while answers.count(b"HTTP/1.1 201") < 3:
                received = client.recv(4096)
                assert received, "the sink has closed the connection"
                answers += received
        assert (sink.messages(), sink.requests(), sink.stamps()) == (6, 3, 3)
        assert sink.sample() == head + body
        assert list(sink.finish()) == [42]


async def test_refused_requests_are_no_result() -> None:
    wire = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    with processes.sink() as sink:
        assert await bare.measure(wire, 5, 2, sink.port) > 0
        assert sink.requests() == 5
    refusal = pytest.raises(SystemExit, match="was answered 503")
    with processes.sink("--status", "503") as sink, refusal:
        await bare.measure(wire, 5, 2, sink.port)


def test_figures() -> None:
    runs = [{"a": 1.0, "b": 5.0}, {"a": 3.0}, {"a": 2000.0}]
    summary = figures.summarise(runs)
    assert summary == {"a": {"median": 3.0, "low": 1.0, "high": 2000.0}}
    assert figures.shown(summary["a"]) == "3.00 (1.00 to 2,000)"
    assert figures.shown(None) == "–"
    ordered = list(range(1, 101))
    assert [figures.percentile(ordered, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
