"""A cluster of asyncio workers that dispatches outbound messages. See README.md."""

__version__ = "0.1.0"
