"""Every error this project raises or classifies. The class decides what happens next:
nothing else looks at the kind of an error than these attributes.

`retryable`      another attempt later may succeed
`uses_attempt`   counts against `[retry] max_attempts`
`trips_breaker`  counts as a failure of the provider, not of the message
`failover`       another provider may take the message
`outcome`        what the message becomes when it is not tried again
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

Scope = Literal["account", "sender", "recipient"]
"""Whom a provider asks to go slower: everybody, one sender, or one sender towards one recipient."""

StoreState = Literal[
    "unreachable", "loading", "read_only", "disk", "full", "too_few_replicas", "cluster_down",
    "moving", "busy", "unconfirmed", "refused", "failed",
]  # fmt: skip
STORE_STATES: Mapping[StoreState, str] = MappingProxyType(
    {
        "unreachable": "store cannot be reached",
        "loading": "store is loading its data",
        "read_only": "store is a replica, which takes no writes",
        "disk": "store cannot write to its disk",
        "full": "store has no room left",
        "too_few_replicas": "store has fewer replicas than it needs to take writes",
        "cluster_down": "store is a cluster that is not whole",
        "moving": "store is changing: the cell moves to another node",
        "busy": "store is busy with a script",
        "unconfirmed": "store has not confirmed a write in time",
        "refused": "store refuses the login or a command",
        "failed": "store answered with an error",
    }
)
"""The trouble a store can be in, and what is said of it."""


CODE_CHARACTERS = 100
DETAIL_CHARACTERS = 500
"""What is kept of a provider's own words: many messages may carry them."""
RETRY_AFTER_MOST = 86_400.0
"""Seconds after which a provider is asked again, whatever it says."""


def kept_words(text: object, most: int = DETAIL_CHARACTERS) -> str:
    """A provider's own words as they can be stored: bounded, and without half characters."""
    return str(text)[:most].encode("utf-8", "replace").decode()


class DispatcherError(Exception):
    """Base of all errors; the text of an instance is one line for a person to read."""

    retryable: ClassVar[bool] = False
    uses_attempt: ClassVar[bool] = False
    trips_breaker: ClassVar[bool] = False
    failover: ClassVar[bool] = False
    outcome: ClassVar[str] = "dead"


class ConfigError(DispatcherError):
    """The configuration is wrong. Names file, table, key and what is allowed. Exit code 2."""


class UsageError(DispatcherError):
    """A command was given something it cannot use (a file, an option). Exit code 2."""


class NotFound(DispatcherError):
    """An id is well formed and the store does not know it (any more). Exit code 1."""


class InvalidMessage(DispatcherError):
    """A message was refused at submit and never entered a queue."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class StoreUnavailable(DispatcherError):
    """Redis cannot be reached or cannot answer now. Nothing is lost, no attempt is used. `state`
    says in a word why, `cell` which part of a cluster it is; "" for a store that is one server."""

    retryable = True

    def __init__(self, detail: str, state: StoreState = "unreachable", cell: str = "") -> None:
        super().__init__(detail)
        self.state: StoreState = state
        self.cell = cell

    @property
    def reason(self) -> str:
        """What is wrong, in a few words."""
        where = f" (cell {self.cell})" if self.cell else ""
        return f"{STORE_STATES[self.state]}{where}"


class StoreFull(StoreUnavailable):
    """Redis has little or no memory left, or `[store] max_queued` is reached: ingest must wait."""

    def __init__(self, detail: str, cell: str = "") -> None:
        super().__init__(detail, "full", cell)


class TenantFull(StoreFull):
    """`[tenants.X] max_queued` is reached: this tenant must wait, others need not."""


class SendError(DispatcherError):
    """A send that did not end as accepted.

    `code` is the provider's own code where it gave one ("21610", "429"), else a word of ours
    ("connect", "timeout"). `retry_after` is in seconds, None where the provider named none; longer
    ones than RETRY_AFTER_MOST are believed as far as that.
    """

    def __init__(self, code: str, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(detail or code)
        self.code = kept_words(code, CODE_CHARACTERS)
        self.detail = kept_words(detail)
        self.retry_after = retry_after
        if retry_after is not None:
            self.retry_after = max(0.0, min(float(retry_after), RETRY_AFTER_MOST))


class Transient(SendError):
    """No connection, or the provider had a passing fault: try again with backoff."""

    retryable = True
    uses_attempt = True
    trips_breaker = True


class OutcomeUnknown(SendError):
    """The request was written and no usable answer came: it may or may not have been sent."""

    retryable = True
    uses_attempt = True
    trips_breaker = True
    outcome = "unknown"


class Unreadable(OutcomeUnknown):
    """An answer came, and the provider's code fails on it: whoever sent again would send as often
    as may be tried."""

    retryable = False


class Throttled(SendError):
    """The provider asks for less: the limit that `scope` names pauses, the message is deferred. Of
    a recipient nothing pauses: only this message waits."""

    retryable = True

    def __init__(
        self,
        code: str,
        detail: str = "",
        retry_after: float | None = None,
        scope: Scope = "account",
    ) -> None:
        super().__init__(code, detail, retry_after)
        self.scope = scope


class Unsent(SendError):
    """Certainly not sent because of another message in the same request: it may go out again at
    once. Where a whole request ends so, it was too large and must be divided."""

    retryable = True

    def __init__(self, code: str, detail: str = "", retry_after: float | None = 0.0) -> None:
        super().__init__(code, detail, retry_after)


class Permanent(SendError):
    """The provider refuses this very message; trying again cannot help."""


class InvalidRecipient(Permanent):
    """The address does not exist or cannot receive this channel."""


class OptedOut(Permanent):
    """The recipient has told the provider to stop."""

    outcome = "suppressed"


class ContentRejected(Permanent):
    """The content is refused (too long, filtered, template)."""


class WindowClosed(Permanent):
    """The channel allows this content only inside a window that is closed."""

    outcome = "suppressed"


class ProviderDown(SendError):
    """Credentials, account or balance: no message can pass until somebody acts."""

    retryable = True
    trips_breaker = True
    failover = True
