"""A cluster of asyncio workers that dispatches outbound messages. See README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.client import Client

__all__ = ["Client", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`Client` is imported when somebody asks for it: it brings an HTTP library."""
    if name == "Client":
        from dispatcher.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
