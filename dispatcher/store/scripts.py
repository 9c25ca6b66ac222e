"""Runs the Lua scripts: EVALSHA, and EVAL where the server does not know the script (any more).

Versions of a script live side by side on a server, each under its own hash. Every failure comes out
as StoreUnavailable: after it the caller does not know whether the script ran, and each script is
harmless when run again.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

import redis.asyncio as aioredis
from redis import exceptions

from dispatcher.store.connection import redirected
from dispatcher.store.keys import Keys
from dispatcher.store.masters import FAILURES
from dispatcher.store.trouble import unavailable

Argument = bytes | str | int | float


_PARTS = {
    "claim": ("lib", "forward", "suspensions", "pace", "shares"),
    "suspend": ("lib", "suspensions", "actions"),
    "override": ("lib", "actions"),
    "cancel": ("lib", "actions"),
    "replay": ("lib", "actions"),
    "drop": ("lib", "actions"),
    "resolve": ("lib", "actions"),
    "move": ("lib", "taking", "actions"),
    "strays": ("lib", "forward", "taking", "recount"),
    "scheduled": ("lib", "suspensions"),
    "survey_lanes": ("lib", "suspensions"),
    "mend": ("lib", "recount"),
    "tidy": ("lib", "recount"),
}
"""What is put in front of a script, where that is more than lib.lua."""


def _source(name: str) -> str:
    folder = files("dispatcher.store") / "lua"
    parts = _PARTS.get(name, ("lib",))
    library = "\n".join((folder / f"{part}.lua").read_text() for part in parts)
    script = (folder / f"{name}.lua").read_text()
    if script.startswith("#!"):
        head, _, body = script.partition("\n")
        return f"{head}\n{library}\n{body}"
    return f"{library}\n{script}"


class Script:
    """One script of `lua/`, bound to a client and a cell; call it with a key and arguments."""

    def __init__(self, client: aioredis.Redis, keys: Keys, name: str) -> None:
        self._client = client
        self._prefix = (keys.prefix, keys.tag)
        self._source = _source(name)
        self._sha = hashlib.sha1(self._source.encode(), usedforsecurity=False).hexdigest()
        self.name = name

    async def __call__(self, key: str, *arguments: Argument) -> Any:
        """Run the script. Raises StoreUnavailable, StoreFull."""
        words = (key, *self._prefix, *arguments)
        try:
            try:
                return await redirected(lambda: self._client.evalsha(self._sha, 1, *words))
            except exceptions.NoScriptError:
                return await redirected(lambda: self._client.eval(self._source, 1, *words))
        except FAILURES as error:
            raise unavailable(error, self.name) from None
