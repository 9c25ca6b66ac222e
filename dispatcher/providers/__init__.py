"""Layer 1: one file per provider. Message to request, answer to verdict; no sockets, no Redis."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import cast

from dispatcher.errors import ConfigError
from dispatcher.exchange import Provider
from dispatcher.settings import ProviderConfig

KINDS = {
    "sendgrid": "dispatcher.providers.sendgrid:SendGrid",
    "twilio": "dispatcher.providers.twilio:Twilio",
    "webhook": "dispatcher.providers.webhook:Webhook",
}


def create(name: str, config: ProviderConfig) -> Provider:
    """The provider of a `[providers.NAME]` table; `kind` is a known one or `package.module:Class`.

    Raises ConfigError for an unknown kind and for settings the kind does not take.
    """
    place = KINDS.get(config.kind, config.kind)
    module, colon, attribute = place.partition(":")
    if not colon:
        near = get_close_matches(config.kind, KINDS, 1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        known = ", ".join(sorted(KINDS))
        raise ConfigError(
            f"providers.{name}.kind: unknown kind {config.kind!r}{hint} "
            f'(known: {known}, or "package.module:Class")'
        )
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"providers.{name}.kind = {config.kind!r}: {error}") from None
    return cast(Provider, kind(name, config))
