"""What the errors of the store's client mean: which trouble the store is in."""

from __future__ import annotations

import re

from redis import exceptions

from dispatcher.errors import STORE_STATES, StoreFull, StoreState, StoreUnavailable

_CLASSES: tuple[tuple[type[Exception], StoreState], ...] = (
    (exceptions.BusyLoadingError, "loading"),
    (exceptions.ReadOnlyError, "read_only"),
    (exceptions.ClusterError, "cluster_down"),
    (exceptions.AskError, "moving"),
    (exceptions.TryAgainError, "moving"),
    (exceptions.AuthenticationError, "refused"),
    (exceptions.AuthorizationError, "refused"),
    (exceptions.NoPermissionError, "refused"),
    (exceptions.ConnectionError, "unreachable"),
    (exceptions.ResponseError, "failed"),
)
_WORDS: dict[str, StoreState] = {
    "MISCONF": "disk",
    "NOREPLICAS": "too_few_replicas",
    "BUSY": "busy",
    "LOADING": "loading",
    "READONLY": "read_only",
    "CLUSTERDOWN": "cluster_down",
    "MASTERDOWN": "cluster_down",
}
"""The first words of replies for which the client has no class, or that come out of a script."""

_IN_SCRIPT = re.compile(r"\.? script: ([0-9a-f]{40}, )?on @user_script:\d+\.?$")
"""Where in a script a command was refused: nothing that a reader of the line could act on."""

_CELL = "cell "
_MOVING = "non local key"
"""How a node of a cluster says that keys of a script are elsewhere (first call of lib.lua)."""


class Unconfirmed(exceptions.RedisError):
    """A write was carried out and is not yet as safe as `[store] confirm` wants it."""


def of_cell(error: BaseException, cell: str) -> None:
    """Note on an error of the client at which cell of a cluster it was met."""
    if not _cell(error):
        error.add_note(f"{_CELL}{cell}")


def unavailable(error: BaseException, what: str = "") -> StoreUnavailable:
    """The error of ours for an error of the client: one line that says what was being done, and in
    a cluster where."""
    text = _IN_SCRIPT.sub("", " ".join(str(error).split())).rstrip(".") or type(error).__name__
    state = _state(error, text)
    cell = _cell(error)
    doing = ", ".join(filter(None, (what, cell and f"{_CELL}{cell}")))
    line = f"{STORE_STATES[state]}{doing and f' ({doing})'}: {text}"
    return StoreFull(line, cell) if state == "full" else StoreUnavailable(line, state, cell)


def _cell(error: BaseException) -> str:
    notes = getattr(error, "__notes__", ())
    return next((note.removeprefix(_CELL) for note in notes if note.startswith(_CELL)), "")


def _state(error: BaseException, text: str) -> StoreState:
    if isinstance(error, Unconfirmed):
        return "unconfirmed"
    if isinstance(error, exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return "full"
    if _MOVING in text:
        return "moving"
    word = _WORDS.get(text.partition(" ")[0])
    if word is not None:
        return word
    return next((state for class_, state in _CLASSES if isinstance(error, class_)), "unreachable")
