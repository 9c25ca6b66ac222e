"""Which carrier a message goes to: mobile operator, mailbox provider or `meta`.

A phone number gives its carrier by its longest known prefix. The prefixes come from `[carriers]`
in the configuration and from carriers.tsv, which build_carriers.py makes from libphonenumber.
That table names a carrier only in countries where a number cannot change its carrier; everywhere
else the carrier is the country, lower-case ISO 3166-1 ("us", "de"), until a prefix is configured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from dispatcher.errors import ConfigError

UNKNOWN = "other"
UNKNOWN_MAILBOX = "other-mail"
META = "meta"

_DATA = Path(__file__).with_name("carriers.tsv")
_PREFIX = re.compile(r"\+[0-9]{1,15}")
_PHONE_CHANNELS = frozenset({"sms", "mms", "rcs", "voice"})
_META_CHANNELS = frozenset({"whatsapp", "messenger", "instagram"})


class Carriers:
    """The carriers of phone numbers, e-mail addresses and messenger recipients.

    `configured` maps a carrier's name to its prefixes in E.164 form (`{"de-telekom": ["+49151"]}`).
    A configured prefix wins over the table, however long the table's own prefix is; between two
    configured ones the longer wins. Raises ConfigError for a malformed prefix and for one that
    two carriers claim.
    """

    def __init__(self, configured: Mapping[str, Sequence[str]]) -> None:
        self._table = _table()
        own = _owners(configured)
        self._names = _compile(_override(_read(), own)) if own else self._table

    def of(self, channel: str, to: str) -> str:
        """The carrier of the recipient `to` on `channel`; "other" where a channel has none."""
        if channel in _PHONE_CHANNELS:
            return _longest(self._names, to)
        if channel == "email":
            return mailbox(to)
        return META if channel in _META_CHANNELS else UNKNOWN

    def carrier(self, number: str) -> str:
        """The carrier of an E.164 number ("+4915112345678" → "de-telekom"), its country where no
        carrier is known, "other" where nothing is."""
        return _longest(self._names, number)

    def country(self, number: str) -> str:
        """The country of an E.164 number, whatever carrier is configured for it."""
        name = _longest(self._table, number)
        return name if name == UNKNOWN else name[:2]


class _Group(NamedTuple):
    """What is known of the numbers that share their first three digits."""

    default: str
    longer: tuple[tuple[int, dict[str, str]], ...]
    """(length, prefix of that length → name), the longest first."""


def _longest(groups: Mapping[str, _Group], number: str) -> str:
    group = groups.get(number[:4])
    if group is None:
        return UNKNOWN
    for length, names in group.longer:
        if (name := names.get(number[:length])) is not None:
            return name
    return group.default


def _compile(names: Mapping[str, str]) -> dict[str, _Group]:
    """Prefix → name, made into groups of three digits: a look-up then tries only the lengths that
    occur under its own digits, one or two for most countries."""
    defaults: dict[str, str] = {}
    longer: dict[str, dict[int, dict[str, str]]] = {}
    for prefix in sorted(names, key=len):
        if len(prefix) <= 4:
            defaults.update(dict.fromkeys(_three_digits(prefix), names[prefix]))
        else:
            by_length = longer.setdefault(prefix[:4], {})
            by_length.setdefault(len(prefix), {})[prefix] = names[prefix]
    return {
        digits: _Group(
            defaults.get(digits, UNKNOWN),
            tuple(sorted(longer.get(digits, {}).items(), reverse=True)),
        )
        for digits in defaults.keys() | longer.keys()
    }


def _three_digits(prefix: str) -> list[str]:
    missing = 4 - len(prefix)
    return [f"{prefix}{rest:0{missing}}" for rest in range(10**missing)] if missing else [prefix]


@cache
def _read() -> Mapping[str, str]:
    """carriers.tsv as prefix → name."""
    lines = _DATA.read_text(encoding="ascii").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {f"+{prefix}": name for name, prefixes in rows for prefix in prefixes.split(" ")}


@cache
def _table() -> Mapping[str, _Group]:
    return _compile(_read())


def _override(table: Mapping[str, str], own: dict[str, str]) -> dict[str, str]:
    """The table without what lies below one of our own prefixes, and with those."""
    covered = tuple(own)
    kept = {prefix: name for prefix, name in table.items() if not prefix.startswith(covered)}
    return kept | own


def _owners(configured: Mapping[str, Sequence[str]]) -> dict[str, str]:
    owners: dict[str, str] = {}
    for name, prefixes in configured.items():
        for prefix in prefixes:
            if not _PREFIX.fullmatch(prefix):
                raise ConfigError(
                    f"[carriers.{name}] prefixes: {prefix!r} is not + and 1 to 15 digits"
                )
            if owners.setdefault(prefix, name) != name:
                raise ConfigError(
                    f'[carriers.{name}] prefixes: "{prefix}" '
                    f"already belongs to [carriers.{owners[prefix]}]"
                )
    return owners


_MAILBOXES: dict[str, str] = {
    "google": "gmail.com googlemail.com",
    "microsoft": "msn.com live.com live.at live.be live.ca live.cl live.cn live.co.uk live.co.za "
    "live.com.ar live.com.au live.com.mx live.com.pt live.com.sg live.de live.dk live.fi live.fr "
    "live.hk live.ie live.in live.it live.jp live.nl live.no live.ru live.se windowslive.com "
    "passport.com",
    "yahoo": "ymail.com rocketmail.com myyahoo.com aol.com aol.de aol.fr aol.it aol.co.uk aim.com "
    "verizon.net",
    "apple": "icloud.com me.com mac.com",
    "gmx": "web.de email.de mail.com",
    "t-online": "t-online.de magenta.de",
    "freenet": "freenet.de",
    "orange": "orange.fr wanadoo.fr",
    "free": "free.fr",
    "laposte": "laposte.net",
    "libero": "libero.it virgilio.it inwind.it iol.it blu.it giallo.it",
    "comcast": "comcast.net xfinity.com",
    "att": "att.net sbcglobal.net bellsouth.net pacbell.net ameritech.net",
    "proton": "proton.me protonmail.com protonmail.ch pm.me",
    "fastmail": "fastmail.com fastmail.fm",
    "zoho": "zoho.com zohomail.com zoho.eu zohomail.eu zoho.in zohomail.in",
    "yandex": "ya.ru yandex.ru yandex.com",
    "mail-ru": "mail.ru inbox.ru list.ru bk.ru internet.ru",
    "qq": "qq.com vip.qq.com foxmail.com",
    "netease": "163.com 126.com yeah.net vip.163.com",
    "naver": "naver.com",
    "seznam": "seznam.cz email.cz",
    "wp": "wp.pl o2.pl",
}
"""Mailbox provider → the domains it gives addresses in."""

_MAILBOX_BY_DOMAIN = {
    domain: name for name, domains in _MAILBOXES.items() for domain in domains.split()
}

_MAILBOX_FAMILIES = {
    "hotmail": "microsoft",
    "outlook": "microsoft",
    "yahoo": "yahoo",
    "gmx": "gmx",
    "yandex": "yandex",
}
"""First label → provider, for names that one provider holds under every country's domain."""

_COUNTRY_DOMAIN = re.compile(r"com|net|(?:(?:co|com)\.)?[a-z]{2}")


def mailbox(address: str) -> str:
    """The mailbox provider of an e-mail address ("ann@gmail.com" → "google"), "other-mail" where
    its domain is nobody's we know. Domains of firms hosted at a provider are not looked up."""
    domain = address[address.rfind("@") + 1 :].lower()
    if (name := _MAILBOX_BY_DOMAIN.get(domain)) is not None:
        return name
    label, _, rest = domain.partition(".")
    if label in _MAILBOX_FAMILIES and _COUNTRY_DOMAIN.fullmatch(rest):
        return _MAILBOX_FAMILIES[label]
    return UNKNOWN_MAILBOX
