"""Transport: POST requests of a Twilio text per second over keep-alive connections to one sink.

Three clients in turn, round after round in one process: the lean transport, aiohttp, and a bare
loop that only writes and parses. Plain, and over TLS where the openssl command can make a
certificate. What counts are the ratios within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from benchmarks import bare, machine
from dispatcher.exchange import Delivery, HttpRequest, Result, Transport
from dispatcher.transport.aiohttp_pool import AiohttpTransport
from dispatcher.transport.lean import LeanTransport
from dispatcher.transport.request import Target

CLIENTS = ("lean", "aiohttp", "bare")
SHARES = {"lean": 1.0, "aiohttp": 0.1, "bare": 1.0}
"""Of the requests of a round: the slow client gets fewer, so that all take about as long."""
HEADERS = {
    "Authorization": "Basic QUMwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDowMDAwMDAwMDAwMDAw",
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
}
BODY = b"To=%2B4915112345678&From=%2B15005550006&Body=Hi+Anna%2C+your+code+is+123456.+Reply+STOP"
PATH = "/2010-04-01/Accounts/AC00000000000000000000000000000000/Messages.json"


class Sink(NamedTuple):
    """Where requests go. `ca_file` None is plain HTTP."""

    port: int
    ca_file: str | None

    @property
    def request(self) -> HttpRequest:
        """What every client sends."""
        scheme, host = ("https", "localhost") if self.ca_file else ("http", "127.0.0.1")
        return HttpRequest("POST", f"{scheme}://{host}:{self.port}{PATH}", HEADERS, BODY, 30.0)


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="./run bench transport", description=__doc__)
    parser.add_argument("--requests", type=int, default=60_000, help="per client and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=256)
    options = parser.parse_args(args)
    result: dict[str, Any] = {"concurrency": options.concurrency, "requests": options.requests}
    result["request_bytes"] = len(Target("http://h/").encode(Sink(0, None).request)) + len(PATH)
    result["conditions"] = machine.describe({})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result["plain"] = runner.run(_rounds(options, tls=False))
        if shutil.which("openssl"):
            result["tls"] = runner.run(_rounds(options, tls=True))
        else:
            print("no TLS figures: there is no openssl command to make a certificate with")
    path = machine.save("transport", result)
    print(f"kept in {path}")


async def _rounds(options: argparse.Namespace, *, tls: bool) -> dict[str, Any]:
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        certificate = _certificate(Path(folder)) if tls else None
        async with _sink(certificate) as sink:
            for _ in range(options.rounds):
                rounds.append(await _round(sink, options.requests, options.concurrency))
    summary = _summary(rounds)
    _print("TLS" if tls else "plain", summary)
    return summary | {"rounds": rounds}


async def _round(sink: Sink, requests: int, concurrency: int) -> dict[str, float]:
    rates = {}
    for name in CLIENTS:
        count = int(requests * SHARES[name])
        if name == "bare":
            rates[name] = await _measure_bare(sink, count, concurrency)
            continue
        kind = LeanTransport if name == "lean" else AiohttpTransport
        transport = kind(concurrency, ca_file=sink.ca_file)
        warm_up = int(40 * concurrency * SHARES[name])  # until all connections are open
        await _drive(transport, sink.request, warm_up, concurrency)
        rates[name] = await _drive(transport, sink.request, count, concurrency)
        await transport.close()
    return rates


async def _drive(transport: Transport, request: HttpRequest, count: int, concurrency: int) -> float:
    """Requests per second with as many under way as connections."""
    ended = asyncio.get_running_loop().create_future()
    left, answered = count - concurrency, 0

    def done(result: Result) -> None:
        nonlocal left, answered
        if result.delivery is not Delivery.ANSWERED:
            raise SystemExit(f"a request ended as {result}")
        answered += 1
        if left > 0:
            left -= 1
            transport.send(request, done)
        elif answered == count:
            ended.set_result(None)

    started = time.perf_counter()
    for _ in range(concurrency):
        transport.send(request, done)
    await ended
    return count / (time.perf_counter() - started)


async def _measure_bare(sink: Sink, count: int, concurrency: int) -> float:
    context = ssl.create_default_context(cafile=sink.ca_file) if sink.ca_file else None
    wire = Target(sink.request.url).encode(sink.request)
    protocols, left, ended = await bare.connect(wire, concurrency, sink.port, context)
    left[0] = count
    started = time.perf_counter()
    for protocol in protocols:
        protocol.start()
    await ended
    rate = count / (time.perf_counter() - started)
    for protocol in protocols:
        protocol.transport.abort()  # type: ignore[attr-defined]
    return rate


@asynccontextmanager
async def _sink(certificate: str | None) -> AsyncIterator[Sink]:
    module = ["benchmarks.tls_sink", certificate] if certificate else ["benchmarks.sink"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield Sink(int(await process.stdout.readline()), certificate)
    finally:
        process.stdin.close()
        await process.wait()


def _certificate(folder: Path) -> str:
    """A file with a key and a certificate for localhost that trusts itself."""
    path = folder / "localhost.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    made = [*command.split(), "-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(made, check=True, capture_output=True)
    path.write_bytes((folder / "certificate").read_bytes() + (folder / "key").read_bytes())
    return str(path)


def _summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    ratios = {
        "lean_to_aiohttp": [item["lean"] / item["aiohttp"] for item in rounds],
        "lean_to_bare": [item["lean"] / item["bare"] for item in rounds],
    }
    series = {f"{name}_per_second": [item[name] for item in rounds] for name in CLIENTS} | ratios
    return {
        name: {"median": statistics.median(values), "low": min(values), "high": max(values)}
        for name, values in series.items()
    }


def _print(title: str, summary: dict[str, Any]) -> None:
    print(f"{title}: median (lowest to highest)")
    for name, value in summary.items():
        digits = 1 if name.startswith("lean_to") else 0
        median, low, high = (f"{value[key]:,.{digits}f}" for key in ("median", "low", "high"))
        print(f"  {name:<24}{median:>10}   ({low} to {high})")


if __name__ == "__main__":
    main(sys.argv[1:])
