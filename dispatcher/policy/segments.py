"""How many segments of SMS a text takes.

Sources: 3GPP TS 23.038 section 6.2.1 (default alphabet and its extension table; an extended
character is an escape and a septet) and 3GPP TS 23.040 section 9.2.3.24 (140 octets per segment;
in a concatenated message 6 of them go to the header with its 8-bit reference, section 9.2.3.24.1,
which leaves 153 septets or 67 units of UCS-2). National language tables are not used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

from dispatcher.messages import Row
from dispatcher.template import Template

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = "\f^{}\\[~]|€"
_BASIC_ASCII = bytes(ord(character) for character in _BASIC if character.isascii())
_all_basic = re.compile(f"[{re.escape(_BASIC)}]*").fullmatch
_all_gsm = re.compile(f"[{re.escape(_BASIC + _EXTENDED)}]*").fullmatch
_escape = partial(re.compile(f"[{re.escape(_EXTENDED)}]").sub, "\x1b.")
_HIGH_SURROGATES = "\xd8\xd9\xda\xdb"
"""Upper octets of the first unit of a pair."""


class Measured(NamedTuple):
    """The size of a text: `units` are septets in GSM-7 and 16-bit units in UCS-2."""

    encoding: Literal["GSM-7", "UCS-2"]
    units: int
    segments: int


def segments(text: str) -> int:
    """Segments of `text`, at least 1: `measure(text).segments`, found faster."""
    return _of_basic(len(text)) if _is_basic(text) else _measure_other(text).segments


def measure(text: str) -> Measured:
    """In what `text` is sent, and how much of that it takes. An empty text is one segment.

    An escape is never parted from its septet, nor a surrogate from its pair: a segment that would
    end between the two ends before them.
    """
    if _is_basic(text):
        return Measured("GSM-7", len(text), _of_basic(len(text)))
    return _measure_other(text)


def segments_of(text: str, columns: Sequence[str], rows: Sequence[Row]) -> int | dict[int, int]:
    """Segments of the texts that `text` makes of these rows: one number where all have the same,
    else by index. Texts that must fit into one segment are not rendered. Raises InvalidMessage."""
    template = Template.compile(text)
    if not template.names:
        return segments(template.fixed)
    if _fit_one(template, rows):
        return 1
    render = template.bind(columns)
    found = {row.index: segments(render(row.values)) for row in rows}
    counts = set(found.values())
    return counts.pop() if len(counts) == 1 else found


def _fit_one(template: Template, rows: Sequence[Row]) -> bool:
    """Whether no row can be more than one segment."""
    try:
        values = ["".join(row.values) for row in rows]  # type: ignore[arg-type]
    except TypeError:  # one has no value
        return False
    fixed = template.fixed
    longest = len(fixed) + template.repeats * max(map(len, values))
    return longest <= 160 and _is_basic(fixed + "".join(values))


def _is_basic(text: str) -> bool:
    if text.isascii():
        return not text.encode("ascii").translate(None, _BASIC_ASCII)
    return _all_basic(text) is not None


def _of_basic(septets: int) -> int:
    return 1 if septets <= 160 else -(-septets // 153)


def _measure_other(text: str) -> Measured:
    if _all_gsm(text):
        septets = _escape(text)
        return Measured("GSM-7", len(septets), _cut(septets, 160, 153, "\x1b"))
    octets = text.encode("utf-16-le", "surrogatepass")[1::2].decode("latin-1")
    return Measured("UCS-2", len(octets), _cut(octets, 70, 67, _HIGH_SURROGATES))


def _cut(units: str, single: int, part: int, firsts: str) -> int:
    """Segments for a character per unit. A unit among `firsts` stays with the one behind it."""
    if len(units) <= single:
        return 1
    count, end = 1, part
    while end < len(units):
        count += 1
        end += part - (units[end - 1] in firsts)
    return count
