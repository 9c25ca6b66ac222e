"""A `dispatcher` whose calls to the store are all made twice, of which only the second is heard:
`python -m benchmarks.twice worker --config FILE`."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from dispatcher.cli.main import main
from dispatcher.store.scripts import Argument, Script

run = Script.__call__
seen: Counter[str] = Counter()
"""How often each script was asked for; it ran twice as often, but for three of four claims."""
_claims: Counter[str] = Counter()


async def run_twice(self: Script, key: str, *arguments: Argument) -> Any:
    """What stands for `Script.__call__`."""
    seen[self.name] += 1
    # A worker that loses the replies of many claims gets few of the slots of a limit.
    _claims[key] += self.name == "claim"
    if self.name != "claim" or _claims[key] % 4 == 1:
        await run(self, key, *arguments)
    return await run(self, key, *arguments)


if __name__ == "__main__":
    Script.__call__ = run_twice  # type: ignore[method-assign]
    sys.exit(main())
