"""Ports for the servers that tests start."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from random import SystemRandom

LOWEST, HIGHEST = 20_000, 30_000
"""Below the ports that the system gives to connections: those of a test that runs at the same time
do not take one before its server listens."""


def free_port(in_a_row: int = 1) -> int:
    """A port that nobody listens on, the first of so many."""
    while True:
        port = SystemRandom().randrange(LOWEST, HIGHEST)
        with ExitStack() as stack:
            try:
                for number in range(in_a_row):
                    listener = stack.enter_context(socket.socket())
                    listener.bind(("", port + number))
            except OSError:
                continue
            return port
