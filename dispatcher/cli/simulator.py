"""`dispatcher simulator`: fake providers as a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from dispatcher.errors import ConfigError, UsageError
from dispatcher.simulator.faults import AnyFault, parse_fault
from dispatcher.simulator.process import run
from dispatcher.simulator.provider import Latency
from dispatcher.simulator.sendgrid import SendGridAccount
from dispatcher.simulator.settings import AnyAccount, Settings, load_settings
from dispatcher.simulator.twilio import TwilioAccount
from dispatcher.simulator.webhook import WebhookAccount
from dispatcher.units import Quota, parse_duration, parse_rate


def _parse_latency(text: str) -> Latency:
    mean, _, jitter = text.partition("~")
    try:
        return Latency(parse_duration(mean), parse_duration(jitter) if jitter else 0.0)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or two as in 20ms~5ms") from None


def _parse_rate(text: str) -> float:
    try:
        rate = parse_rate(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if isinstance(rate, Quota):
        raise click.BadParameter(f"must be a rate per s, min or h, got {text!r}")
    return rate.per_second


def _parse_fault(text: str) -> AnyFault:
    try:
        return parse_fault(text)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8900, show_default=True, type=click.IntRange(0, 65535), help="0 = any free."
)
@click.option(
    "--settings",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Accounts, faults and seed from a .toml or .json file.",
)
@click.option("--account-sid", metavar="SID", help="Of the Twilio account; not with --settings.")
@click.option("--auth-token", metavar="TOKEN", help="Of the Twilio account; not with --settings.")
@click.option(
    "--rate",
    metavar="RATE",
    type=_parse_rate,
    help="Each account's limit, e.g. 100/s; above it 429.",
)
@click.option(
    "--latency", metavar="TIME", type=_parse_latency, help="Of each answer: 20ms, or 20ms~5ms."
)
@click.option(
    "--fault", "faults", metavar="FAULT", multiple=True, type=_parse_fault, help="May be repeated."
)
@click.option("--seed", type=int, help="Makes faults and latencies the same in every run.")
def simulator(
    host: str,
    port: int,
    file: Path | None,
    account_sid: str | None,
    auth_token: str | None,
    rate: float | None,
    latency: Latency | None,
    faults: tuple[AnyFault, ...],
    seed: int | None,
) -> None:
    """Fake providers on one port, until SIGTERM.

    Without --settings there are a Twilio account (SID: AC and 32 zeros, auth token: 32 zeros) at
    /2010-04-01/Accounts/SID/Messages.json, a SendGrid account (API key: SG. and 32 zeros) at
    /v3/mail/send, and a webhook receiver at /webhook/demo.

    A fault is WHAT[:SHARE][:NAME=VALUE...]. WHAT is an HTTP status, one of the provider's codes,
    or: reset-before, reset-after, hang, garbage, truncate, slow, close.

    \b
    Example:
      dispatcher simulator --port 8900 --rate 100/s --latency 20ms~5ms \\
        --fault 500:3% --fault 21610:1% --fault slow:10%:seconds=0.5

    \b
    While it runs:
      GET    /_/journal?from=0      every message, as JSON Lines
      GET    /_/counts              totals
      DELETE /_/journal             forget them
      PUT    /_/faults              replace the faults, e.g. ["500:3%"]
      PUT    /_/accounts/KIND/NAME  change an account, e.g. {"suspended": true}
    """
    if file and (account_sid or auth_token):
        raise UsageError("--account-sid and --auth-token do not go with --settings")
    chosen = load_settings(file) if file else _default_settings(account_sid, auth_token)
    run(_override(chosen, rate, latency, faults, seed), host, port, _announce)


def _default_settings(account_sid: str | None, auth_token: str | None) -> Settings:
    default = TwilioAccount()
    try:
        twilio = TwilioAccount(
            account_sid=account_sid or default.account_sid,
            auth_token=auth_token or default.auth_token,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Settings((twilio, WebhookAccount(), SendGridAccount()))


def _override(
    settings: Settings,
    rate: float | None,
    latency: Latency | None,
    faults: tuple[AnyFault, ...],
    seed: int | None,
) -> Settings:
    given = {"rate": rate, "latency": latency}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    accounts: tuple[AnyAccount, ...] = tuple(
        msgspec.structs.replace(account, **changes) for account in settings.accounts
    )
    return Settings(accounts, settings.faults + faults, settings.seed if seed is None else seed)


def _announce(url: str) -> None:
    click.echo(f"listening on {url}")
