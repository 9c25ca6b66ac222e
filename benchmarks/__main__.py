"""Runs benchmarks by name: `python -m benchmarks [NAME [OPTION ...]]`; without a name, all."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = ("throughput", "transport")


def main(args: list[str]) -> int:
    """Run the named benchmark with the rest of the arguments, or all of them."""
    if args and args[0] in ("-h", "--help"):
        print(f"usage: ./run bench [NAME [OPTION ...]]\nnames: {', '.join(NAMES)}")
        return 0
    if args and args[0] not in NAMES:
        print(f"no benchmark {args[0]!r} (known: {', '.join(NAMES)})", file=sys.stderr)
        return 2
    for name in args[:1] or NAMES:
        import_module(f"benchmarks.{name}").main(args[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
