"""The sink of `benchmarks.sink` over TLS: `python -m benchmarks.tls_sink FILE`, where FILE has its
certificate and key, prints the port and answers until its stdin ends."""

from __future__ import annotations

import asyncio
import ssl
import sys

import uvloop

from benchmarks.sink import Sink


async def _serve(certificate: str) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = await loop.create_server(Sink, "127.0.0.1", 0, backlog=4096, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1]))
