"""What a simulator simulates: accounts and faults, built in code or read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from dispatcher.errors import ConfigError
from dispatcher.simulator.faults import AnyFault
from dispatcher.simulator.provider import Provider
from dispatcher.simulator.sendgrid import SendGrid, SendGridAccount
from dispatcher.simulator.twilio import Twilio, TwilioAccount
from dispatcher.simulator.webhook import Webhook, WebhookAccount

AnyAccount = TwilioAccount | WebhookAccount | SendGridAccount
PROVIDERS: tuple[type[Provider[Any]], ...] = (Twilio, Webhook, SendGrid)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The accounts, by default one of each kind, and the faults in order.

    `seed` decides every random fault and latency; None is another run each time.
    """

    accounts: tuple[AnyAccount, ...] = (TwilioAccount(), WebhookAccount(), SendGridAccount())
    faults: tuple[AnyFault, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        names = [(type(account), account.name) for account in self.accounts]
        for kind, name in names:
            if names.count((kind, name)) > 1:
                raise ValueError(f"account {name} is there more than once")


def load_settings(path: Path) -> Settings:
    """Read settings from a `.toml` or `.json` file. Raises ConfigError."""
    try:
        return _decode(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _decode(path: Path) -> Settings:
    if path.suffix == ".toml":
        return msgspec.toml.decode(path.read_bytes(), type=Settings)
    if path.suffix == ".json":
        return msgspec.json.decode(path.read_bytes(), type=Settings)
    raise ConfigError(f"{path}: settings are a .toml or .json file")
