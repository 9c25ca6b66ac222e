"""Layer 1: bytes on the wire. Knows no provider."""

from __future__ import annotations

from typing import Literal

from dispatcher.exchange import Transport


def create(kind: Literal["lean", "aiohttp"], concurrency: int) -> Transport:
    """An HTTP transport with at most `concurrency` connections per origin. Needs a running loop."""
    if kind == "lean":
        from dispatcher.transport.lean import LeanTransport

        return LeanTransport(concurrency)
    # Imported only where it is asked for: it takes longer than all the rest of a worker's start.
    from dispatcher.transport.aiohttp_pool import AiohttpTransport

    return AiohttpTransport(concurrency)
