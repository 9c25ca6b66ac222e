"""`python -m benchmarks.rivals`; `./run bench rivals` does the same."""

from __future__ import annotations

import sys

from benchmarks.rivals import main

if __name__ == "__main__":
    main(sys.argv[1:])
