"""Transport: POST requests of a Twilio text per second over keep-alive connections to one sink.

Three clients in turn, round after round in one process: the lean transport, aiohttp, and a bare
loop that only writes and parses. Plain, and over TLS where the openssl command can make a
certificate. What counts are the ratios within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import bare, certificate, figures, machine, processes
from benchmarks.processes import Sink
from dispatcher.exchange import Delivery, HttpRequest, Result, Transport
from dispatcher.transport.aiohttp_pool import AiohttpTransport
from dispatcher.transport.lean import LeanTransport
from dispatcher.transport.request import Target

CLIENTS = ("lean", "aiohttp", "bare")
WORDS = {
    "lean_per_second": "lean",
    "aiohttp_per_second": "aiohttp",
    "bare_per_second": "bare loop",
    "lean_to_aiohttp": "lean ÷ aiohttp",
    "lean_to_bare": "lean ÷ bare loop",
}
SHARES = {"lean": 1.0, "aiohttp": 0.1, "bare": 1.0}
"""Of the requests of a round: the slow client gets fewer, so that all take about as long."""
HEADERS = {
    "Authorization": "Basic QUMwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDowMDAwMDAwMDAwMDAw",
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
}
BODY = b"To=%2B4915112345678&From=%2B15005550006&Body=Hi+Anna%2C+your+code+is+123456.+Reply+STOP"
PATH = "/2010-04-01/Accounts/AC00000000000000000000000000000000/Messages.json"


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="./run bench transport", description=__doc__)
    parser.add_argument("--requests", type=int, default=60_000, help="per client and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=256)
    options = parser.parse_args(args)
    result: dict[str, Any] = {"concurrency": options.concurrency, "requests": options.requests}
    result["conditions"] = machine.describe({})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result["plain"] = runner.run(_rounds(options, tls=False))
        if certificate.can_create():
            result["tls"] = runner.run(_rounds(options, tls=True))
        else:
            print("no TLS figures: there is no openssl command to make a certificate with")
    machine.save("transport", result)


async def _rounds(options: argparse.Namespace, *, tls: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = certificate.create(Path(folder)) if tls else None
        with processes.sink(certificate=path) as sink:
            rounds = [
                await _round(sink, options.requests, options.concurrency)
                for _ in range(options.rounds)
            ]
    summary = figures.summarise(rounds)
    title = f"{'TLS' if tls else 'plain'}, {options.concurrency} in flight, {len(rounds)} rounds"
    figures.print_table(title, figures.list_figures(summary, WORDS))
    return {"summary": summary, "runs": rounds}


def _request(sink: Sink) -> HttpRequest:
    """What every client sends."""
    return HttpRequest("POST", sink.origin + PATH, HEADERS, BODY, 30.0)


async def _round(sink: Sink, requests: int, concurrency: int) -> dict[str, float]:
    rates: dict[str, float] = {}
    for name in CLIENTS:
        count = int(requests * SHARES[name])
        if name == "bare":
            rates[f"{name}_per_second"] = await _measure_bare(sink, count, concurrency)
            continue
        request = _request(sink)
        kind = LeanTransport if name == "lean" else AiohttpTransport
        transport = kind(concurrency, ca_file=sink.ca_file)
        warm_up = int(40 * concurrency * SHARES[name])  # until all connections are open
        await _drive(transport, request, warm_up, concurrency)
        rates[f"{name}_per_second"] = await _drive(transport, request, count, concurrency)
        await transport.close()
    lean = rates["lean_per_second"]
    rates["lean_to_aiohttp"] = lean / rates["aiohttp_per_second"]
    rates["lean_to_bare"] = lean / rates["bare_per_second"]
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
    request = _request(sink)
    wire = Target(request.url).encode(request)
    return await bare.measure(wire, count, concurrency, sink.port, context)


def tables() -> dict[str, figures.Table]:
    """What `report` shows of the kept results."""
    kept = machine.saved("transport").get("transport", {})
    rows = [
        [kind, *(figures.shown(kept[kind]["summary"].get(name)) for name in WORDS)]
        for kind in ("plain", "tls")
        if kind in kept
    ]
    return {"transport": figures.Table(("requests/s", *WORDS.values()), rows)} if rows else {}
