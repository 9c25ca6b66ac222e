"""How many SMS segments a text takes, counted apart from the sender's own arithmetic.

Source: facts page, section 11 (GSM 03.38 alphabet; 160/153 septets, 70/67 UTF-16 units).
"""

from __future__ import annotations

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
_GSM = _BASIC | _EXTENSION


def count_segments(text: str) -> int:
    """Segments of `text`, at least 1."""
    if _GSM.issuperset(text):
        widths = None if _BASIC.issuperset(text) else [1 + (c in _EXTENSION) for c in text]
        return _parts(len(text), widths, single=160, part=153)
    wide = any(c > "\uffff" for c in text)
    widths = [1 + (c > "\uffff") for c in text] if wide else None
    return _parts(len(text), widths, single=70, part=67)


def _parts(length: int, widths: list[int] | None, single: int, part: int) -> int:
    """Parts for characters of the given widths; a character of width 2 is never cut in half."""
    if widths is None:
        return 1 if length <= single else -(-length // part)
    if sum(widths) <= single:
        return 1
    parts, room = 1, part
    for width in widths:
        if width > room:
            parts, room = parts + 1, part
        room -= width
    return parts
