"""A Prometheus of one's own: started in a folder, asked over HTTP, ended."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

START_SECONDS = 30.0
STEP = 1.0
"""Seconds between the points of an answer, and between scrapes."""


WINDOW = "15s"


class Series(NamedTuple):
    """One series of an answer: its labels and its points (Unix time, value)."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


class Span(NamedTuple):
    """From when to when, in Unix time."""

    start: float
    end: float


class Prometheus(NamedTuple):
    """A running one."""

    url: str

    def over(self, expr: str, span: Span) -> list[Series]:
        """The series of an expression during a time."""
        found = self._ask("query_range", query=expr, start=span.start, end=span.end, step=STEP)
        return [_series(one, one["values"]) for one in found]

    def at(self, expr: str, time: float) -> list[Series]:
        """The values of an expression at one time."""
        found = self._ask("query", query=expr, time=time)
        return [_series(one, [one["value"]]) for one in found]

    def _ask(self, call: str, **parameters: Any) -> list[dict[str, Any]]:
        try:
            with urlopen(f"{self.url}/api/v1/{call}?{urlencode(parameters)}", timeout=30) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return found
        except HTTPError as error:
            reason = json.load(error)["error"]
            raise SystemExit(f"Prometheus refuses {parameters['query']}: {reason}") from None


def _series(one: Mapping[str, Any], points: Sequence[tuple[float, str]]) -> Series:
    return Series(one["metric"], [(float(at), float(value)) for at, value in points])


@contextmanager
def prometheus(
    folder: Path, rules: Path, port: int, targets: Sequence[int]
) -> Iterator[Prometheus]:
    """Prometheus with the rules of a folder, scraping these ports every second; its log is in
    `prometheus.log`. A run is short: rules are evaluated every second too, over WINDOW in place
    of a minute."""
    (folder / "rules").mkdir()
    for path in rules.glob("*.yaml"):
        text = path.read_text().replace("interval: 15s", "").replace("[1m]", f"[{WINDOW}]")
        (folder / "rules" / path.name).write_text(text)
    addresses = [f"127.0.0.1:{target}" for target in targets]
    jobs = [{"job_name": "dispatcher", "static_configs": [{"targets": addresses}]}]
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = {"global": every, "rule_files": [f"{folder}/rules/*.yaml"], "scrape_configs": jobs}
    (folder / "prometheus.json").write_text(json.dumps(config))
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.json",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        url = f"http://127.0.0.1:{port}"
        _until_ready(process, f"{url}/-/ready", log)
        yield Prometheus(url)
    finally:
        process.terminate()
        process.wait()


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    raise SystemExit(f"Prometheus does not start: {log.read_text()[-500:]}")
