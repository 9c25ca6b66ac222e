"""Which way a message would take, and why: carrier, route, senders, lanes. Nothing is read from the
store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from dispatcher.engine.ingest import Ingest
from dispatcher.errors import InvalidMessage, UsageError
from dispatcher.policy.carriers import META, UNKNOWN, UNKNOWN_MAILBOX
from dispatcher.policy.recipients import normalise
from dispatcher.policy.routing import Router, pick_sender, sender_pool
from dispatcher.settings import CarrierConfig, Config

COUNTRY_LETTERS = 2


class Choice(NamedTuple):
    """One provider of the route. `pool` is how many literals its sender may be, of which every
    recipient always gets the same (`sender`, None where none was asked for); `refusal` says why it
    is left out; `recipient` names the limits kept for each recipient alone."""

    provider: str
    lane: str = ""
    sender: str | None = None
    pool: int = 1
    limits: tuple[str, ...] = ()
    recipient: tuple[str, ...] = ()
    refusal: str | None = None


class Explanation(NamedTuple):
    """The way of a message; `found_by` says where its carrier comes from, `route` which table of
    the configuration decides; `choices` are its providers in failover order."""

    to: str
    channel: str
    carrier: str
    found_by: str
    route: str
    choices: tuple[Choice, ...]


def explain(ingest: Ingest, channel: str, to: str, sender: str | None, tenant: str) -> Explanation:
    """The way of a message to `to`; `sender` is what `from` would say.

    Raises UsageError for what cannot be a message, InvalidMessage where no route takes it.
    """
    try:
        to = normalise(channel, to)
        if sender is not None:
            ingest.check_sender(sender)
    except InvalidMessage as error:
        raise UsageError(str(error)) from None
    carrier = ingest.carriers.of(channel, to)
    providers = ingest.router.route(channel, to).providers
    return Explanation(
        to,
        channel,
        carrier,
        found_by(ingest.config.carriers, channel, to, carrier),
        _route(ingest, channel, to),
        tuple(_choice(ingest, name, channel, carrier, to, sender, tenant) for name in providers),
    )


def found_by(configured: Mapping[str, CarrierConfig], channel: str, to: str, carrier: str) -> str:
    """What named the carrier of a recipient."""
    if channel == "email":
        domain = to.rpartition("@")[2]
        return f"{domain} is no known mailbox provider" if carrier == UNKNOWN_MAILBOX else domain
    if carrier in (META, UNKNOWN):
        return f"channel {channel}" if carrier == META else "nothing is known of it"
    own = configured[carrier].prefixes if carrier in configured else ()
    longest = max((prefix for prefix in own if to.startswith(prefix)), key=len, default=None)
    if longest is not None:
        return f"{longest} in [carriers.{carrier}]"
    if len(carrier) == COUNTRY_LETTERS:
        return "the country: no prefix is configured for it"
    return "the table of number ranges"


def _route(ingest: Ingest, channel: str, to: str) -> str:
    """The table that decides, found by asking each alone."""
    config = ingest.config
    channels = {name: provider.channels for name, provider in ingest.providers.items()}
    for index, table in enumerate(config.routes):
        try:
            Router(replace(config, routes=(table,)), channels).route(channel, to)
        except InvalidMessage:
            continue
        return f"routes[{index}], to {table.to}"
    return f"every provider of {channel}: there are no [[routes]]"


def _choice(
    ingest: Ingest,
    provider: str,
    channel: str,
    carrier: str,
    to: str,
    sender: str | None,
    tenant: str,
) -> Choice:
    limits, config = ingest.limits, ingest.config
    if sender is not None and (refusal := _refusal(config, sender, provider)):
        return Choice(provider, refusal=refusal)
    if sender is None and limits.by_sender(provider, channel, carrier, tenant):
        raise UsageError(f"{provider} has limits per sender: say which one with --from")
    pool = sender_pool(config.senders, sender or "", provider)
    literal = pick_sender(pool, to)
    lane = limits.lane(provider, channel, carrier, literal, tenant)
    return Choice(
        provider,
        lane,
        None if sender is None else literal,
        len(pool),
        limits.of(lane),
        tuple(limit.name for limit in limits.recipient(lane)),
    )


def _refusal(config: Config, sender: str, provider: str) -> str | None:
    if sender in config.senders and provider not in config.senders[sender]:
        return f"senders.{sender} names no sender of {provider}"
    return None
