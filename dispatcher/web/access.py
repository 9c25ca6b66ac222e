"""Who calls: the tenant of a bearer token."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest

from dispatcher.settings import TenantConfig
from dispatcher.web.problems import unauthorized

DEFAULT_TENANT = "default"


class Access:
    """The tokens of all tenants. Without tenants everybody who can connect is the default one."""

    def __init__(self, tenants: Mapping[str, TenantConfig]) -> None:
        self._open = not tenants
        self._tokens = [
            (_digest(token.reveal()), name)
            for name, item in tenants.items()
            for token in item.token
        ]

    def tenant(self, authorization: str | None) -> str:
        """The tenant of an Authorization header. Every token is compared, however early one
        matches. Raises Problem 401."""
        if self._open:
            return DEFAULT_TENANT
        scheme, _, token = (authorization or "").partition(" ")
        given, found = _digest(token.strip()), None
        for known, name in self._tokens:
            if compare_digest(known, given):
                found = name
        if found is None or scheme.lower() != "bearer":
            raise unauthorized()
        return found


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
