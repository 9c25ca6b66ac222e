"""Durations, rates and times as people write them.

The text of every ValueError raised here is the end of a sentence ("must be a duration such as
…, got …"): whoever catches it puts the name of the option or key in front.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import ClassVar, Literal, cast

import msgspec

DURATION = 'a duration up to 3650d such as "500ms", "15s", "1h30m" or "14d"'
RATE = 'a rate above 0 such as "100/s", "75/min", "3600/h", "2000/day" or "50000/month"'
TIME = 'an RFC 3339 time with an offset such as "2026-11-27T09:00:00+01:00" or "…Z"'

_UNITS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_LONGEST = 3650 * _UNITS["d"]
_DURATION = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in _UNITS), re.ASCII)

_PERIODS = {"s": 1, "min": 60, "h": 3600}
_FASTEST = 1_000_000
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)/(s|min|h|day|month)", re.ASCII)

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> float:
    """Seconds of `"1h30m"`: numbers with the units d, h, m, s, ms, largest first, to the µs.

    Raises ValueError.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise _refused(DURATION, text)
    parts = zip(match.groups(), _UNITS.values(), strict=True)
    micros = sum(round(Decimal(number) * unit) for number, unit in parts if number)
    if micros > _LONGEST:
        raise _refused(DURATION, text)
    return micros / 1_000_000


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as the same number of µs."""
    rest = round(seconds * 1_000_000)
    parts = []
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        whole = parts.pop().removesuffix("ms") if parts and parts[-1].endswith("ms") else "0"
        parts.append(f"{whole}.{rest:03}".rstrip("0") + "ms")
    return "".join(parts) or "0s"


class Duration(float):
    """Seconds, written in the configuration as `"15s"`."""

    expects: ClassVar[str] = DURATION

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Raises ValueError."""
        if not isinstance(value, str):
            raise _refused(DURATION, value)
        return cls(parse_duration(value))


class Rate(msgspec.Struct, frozen=True):
    """An evenly spaced rate. `interval_us` is the space between two slots in µs."""

    per_second: float
    interval_us: float
    text: str


class Quota(msgspec.Struct, frozen=True):
    """At most `count` in one calendar period, not spaced."""

    count: int
    period: Literal["day", "month"]
    text: str


def parse_rate(text: str) -> Rate | Quota:
    """A Rate for `/s`, `/min` and `/h`; a Quota (whole numbers only) for `/day` and `/month`.

    Raises ValueError, also for 0 and for more than 1,000,000 a second.
    """
    match = _RATE.fullmatch(text)
    if match is None or not float(match[1]):
        raise _refused(RATE, text)
    number, period = match.groups()
    if period in _PERIODS:
        return _even(text, float(number), _PERIODS[period])
    if not number.isdecimal():
        raise _refused(RATE, text)
    return Quota(int(number), cast(Literal["day", "month"], period), text)


def _even(text: str, count: float, seconds: int) -> Rate:
    if count > _FASTEST * seconds:
        raise _refused(f"a rate up to {_FASTEST}/s", text)
    return Rate(count / seconds, seconds * 1_000_000 / count, text)


class Rates(tuple[Rate, ...]):
    """The rates of one `rate` key, which all hold together; `quotas` are its calendar quotas."""

    expects: ClassVar[str] = f"{RATE}, or a list of them"
    quotas: tuple[Quota, ...]

    def __new__(cls, rates: Iterable[Rate] = (), quotas: Iterable[Quota] = ()) -> Rates:
        self = super().__new__(cls, rates)
        self.quotas = tuple(quotas)
        return self

    @classmethod
    def parse(cls, value: object) -> Rates:
        """Read one rate or a list of rates. Raises ValueError."""
        items: list[object] = value if isinstance(value, list) else [value]
        texts = [item for item in items if isinstance(item, str)]
        if not texts or len(texts) < len(items):
            raise _refused(cls.expects, value)
        parsed = [parse_rate(text) for text in texts]
        return cls(
            (rate for rate in parsed if isinstance(rate, Rate)),
            (quota for quota in parsed if isinstance(quota, Quota)),
        )

    @property
    def texts(self) -> list[str]:
        """Every rate and quota as it was written, rates first."""
        return [item.text for item in (*self, *self.quotas)]

    def __eq__(self, other: object) -> bool:
        quotas = other.quotas if isinstance(other, Rates) else ()
        return super().__eq__(other) and self.quotas == quotas

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


def parse_time(text: str) -> int:
    """µs since 1970-01-01T00:00Z of an RFC 3339 time. Raises ValueError, also without an offset."""
    match = _TIME.fullmatch(text)
    if match is None or match[1] is None:
        raise _refused(TIME, text)
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        raise _refused(TIME, text) from None
    return (time - _EPOCH) // timedelta(microseconds=1)


def _refused(expected: str, value: object) -> ValueError:
    return ValueError(
        f"must be {expected}, got {json.dumps(value, ensure_ascii=False, default=str)}"
    )
