"""Who calls: the tenant or the operator of a bearer token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from hmac import compare_digest
from types import MappingProxyType
from typing import NamedTuple

from dispatcher.settings import OperatorConfig, TenantConfig
from dispatcher.web.problems import forbidden, unauthorized

DEFAULT_TENANT = "default"
LOCAL_OPERATOR = "local"
"""Whoever calls on a machine that asks for no token."""


class Caller(NamedTuple):
    """Who calls. `tenant` is whose messages are meant, "" for an operator; `operator` is the
    operator's name, "" for others."""

    tenant: str = ""
    operator: str = ""


class Access:
    """The tokens of all tenants and operators. Without tenants everybody who can connect is the
    default one; without both, everybody is an operator too: only this machine can connect then."""

    def __init__(
        self,
        tenants: Mapping[str, TenantConfig],
        operators: Mapping[str, OperatorConfig] = MappingProxyType({}),
    ) -> None:
        self._open = not tenants
        self._operated = bool(operators)
        self._tokens = [
            *_tokens(tenants, lambda name: Caller(tenant=name)),
            *_tokens(operators, lambda name: Caller(operator=name)),
        ]

    def caller(
        self, authorization: str | None, *, tenant: bool = True, operator: bool = False
    ) -> Caller:
        """Who has the token of an Authorization header, if tenants, operators or both may call.
        Every token is compared, however early one matches. Raises Problem 401, 403."""
        found = self._find(authorization)
        if (tenant and found.tenant) or (operator and found.operator):
            return found
        if not self.needs_token(tenant=tenant, operator=operator):
            return Caller(DEFAULT_TENANT) if tenant else Caller(operator=LOCAL_OPERATOR)
        if found == Caller():
            raise unauthorized("a tenant" if tenant else "an operator")
        raise forbidden("a tenant" if tenant else "an operator", self._operated or tenant)

    def needs_token(self, *, tenant: bool, operator: bool) -> bool:
        """Whether nobody may call without one."""
        if tenant:
            return not self._open
        return operator and (self._operated or not self._open)

    def _find(self, authorization: str | None) -> Caller:
        """Nobody for an unknown token."""
        scheme, _, token = (authorization or "").partition(" ")
        given, found = _digest(token.strip()), Caller()
        for known, caller in self._tokens:
            if compare_digest(known, given):
                found = caller
        return found if scheme.lower() == "bearer" else Caller()


def _tokens(
    holders: Mapping[str, TenantConfig] | Mapping[str, OperatorConfig],
    caller: Callable[[str], Caller],
) -> Iterator[tuple[bytes, Caller]]:
    for name, holder in holders.items():
        for token in holder.token:
            yield _digest(token.reveal()), caller(name)


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
