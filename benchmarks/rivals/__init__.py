"""Rivals: other task queues send the same messages to the same sink as the dispatcher."""

from __future__ import annotations


def main(args: list[str]) -> None:
    """Command line of the benchmark."""
    from benchmarks.rivals import rounds  # here, as the rivals' own environments lack its imports

    rounds.main(args)
