"""Everything the API answers instead of a result, as RFC 9457 wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from dispatcher.bodies import ProblemBody, RejectedRecipient
from dispatcher.errors import (
    InvalidMessage,
    StoreFull,
    StoreUnavailable,
    TenantFull,
)

FULL_SECONDS = 5
AWAY_SECONDS = 2
"""What Retry-After says while the store is full, or does not answer."""


class Problem(Exception):
    """Ends a call with a status, a word for programs and a sentence for people."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        rejected: Sequence[RejectedRecipient] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}
        title = HTTPStatus(status).phrase
        self.body = ProblemBody("about:blank", title, status, detail, code, rejected=rejected)


def invalid(code: str, detail: str) -> Problem:
    """The body can be read and cannot be meant."""
    return Problem(422, code, detail)


def refused(error: InvalidMessage) -> Problem:
    """What concerns the whole call is wrong."""
    return invalid(error.code, error.detail)


def not_found(what: str) -> Problem:
    """Also the answer for what belongs to another tenant."""
    return Problem(404, "not_found", f"{what} is not known")


def unauthorized(whose: str = "a tenant") -> Problem:
    """The same for a missing and for a wrong token."""
    return Problem(
        401, "unauthorized", f"Authorization: Bearer TOKEN of {whose} is needed",
        headers={"WWW-Authenticate": 'Bearer realm="dispatcher"'},
    )  # fmt: skip


def forbidden(whose: str, configured: bool) -> Problem:
    """The token is known and may not do this."""
    hint = "" if configured else "; none is configured ([operators.NAME] token)"
    return Problem(403, "forbidden", f"this needs the token of {whose}{hint}")


def store_problem(error: StoreUnavailable) -> Problem:
    """Full: less, please. Away: later, please. Nothing was accepted as far as anybody can tell."""
    if isinstance(error, TenantFull):
        return Problem(429, "tenant_full", str(error), headers={"Retry-After": str(FULL_SECONDS)})
    if isinstance(error, StoreFull):
        return Problem(
            429, "store_full", "the store takes no more messages for now",
            headers={"Retry-After": str(FULL_SECONDS)},
        )  # fmt: skip
    return Problem(
        503, "store_unavailable", error.reason,
        headers={"Retry-After": str(AWAY_SECONDS)},
    )  # fmt: skip
