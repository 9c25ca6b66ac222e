"""Segments of texts, against known sizes and against a model that builds every segment."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.policy.segments import Measured, measure, segments

TABLE = {
    0x00: "@£$¥èéùìòÇ\nØø\rÅå", 0x10: "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ", 0x20: " !\"#¤%&'()*+,-./",
    0x30: "0123456789:;<=>?", 0x40: "¡ABCDEFGHIJKLMNO", 0x50: "PQRSTUVWXYZÄÖÑÜ§",
    0x60: "¿abcdefghijklmno", 0x70: "pqrstuvwxyzäöñüà",
}  # fmt: skip
"""3GPP TS 23.038, section 6.2.1, row by row."""
EXTENSION = {
    0x0A: "\f", 0x14: "^", 0x28: "{", 0x29: "}", 0x2F: "\\", 0x3C: "[", 0x3D: "~", 0x3E: "]",
    0x40: "|", 0x65: "€",
}  # fmt: skip
"""Section 6.2.1.1."""
ESCAPE = 0x1B

SEPTETS = {
    character: (row + column,)
    for row, characters in TABLE.items()
    for column, character in enumerate(characters)
    if row + column != ESCAPE
} | {character: (ESCAPE, code) for code, character in EXTENSION.items()}
BASIC = [character for character, septets in SEPTETS.items() if len(septets) == 1]


def model(text: str) -> Measured:
    """Character by character into segments of 140 octets, header included."""
    if all(character in SEPTETS for character in text):
        septets = [len(SEPTETS[character]) for character in text]
        return Measured("GSM-7", sum(septets), parts(septets, 140 * 8 // 7, (140 - 6) * 8 // 7))
    units = [len(character.encode("utf-16-be")) // 2 for character in text]
    return Measured("UCS-2", sum(units), parts(units, 140 // 2, (140 - 6) // 2))


def parts(sizes: list[int], alone: int, each: int) -> int:
    if sum(sizes) <= alone:
        return 1
    filled = [0]
    for size in sizes:
        if filled[-1] + size > each:
            filled.append(0)
        filled[-1] += size
    return len(filled)


def texts(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Short runs and long ones, so that pairs meet the ends of segments in every position."""
    runs = st.tuples(alphabet, st.integers(1, 160)).map(lambda run: run[0] * run[1])
    return st.lists(alphabet | runs, max_size=8).map("".join)


GSM = st.sampled_from(sorted(SEPTETS))
ANY = (
    GSM
    | st.sampled_from("ç‑“Привет漢字\0\t\x1b🎉👩‍👩‍👧")
    | st.characters(exclude_categories=["Cs"])
)


@given(texts(GSM))
@settings(max_examples=300, deadline=None)
def test_gsm_texts_are_as_in_the_model(text: str) -> None:
    assert measure(text) == model(text)
    assert segments(text) == model(text).segments
    assert measure(text).encoding == "GSM-7"


@given(texts(ANY))
@settings(max_examples=300, deadline=None)
@example("a" * 66 + "🎉" * 40)
def test_any_text_is_as_in_the_model(text: str) -> None:
    assert measure(text) == model(text)
    assert segments(text) == model(text).segments


@pytest.mark.parametrize("code", range(0x250))
def test_every_character_up_to_the_extended_latin_ones(code: int) -> None:
    assert measure(chr(code)) == model(chr(code))


def test_the_whole_alphabet() -> None:
    assert len(BASIC) == 127
    assert measure("".join(BASIC)) == Measured("GSM-7", 127, 1)
    assert measure("".join(EXTENSION.values())) == Measured("GSM-7", 20, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Measured("GSM-7", 0, 1)),
        ("a" * 160, Measured("GSM-7", 160, 1)),
        ("a" * 161, Measured("GSM-7", 161, 2)),
        ("ü" * 160, Measured("GSM-7", 160, 1)),
        ("ü" * 306, Measured("GSM-7", 306, 2)),
        ("a" * 307, Measured("GSM-7", 307, 3)),
        ("€" * 80, Measured("GSM-7", 160, 1)),
        ("€" * 80 + "a", Measured("GSM-7", 161, 2)),
        ("a" * 152 + "€" + "a" * 152, Measured("GSM-7", 306, 3)),
        ("a" * 151 + "€" + "a" * 153, Measured("GSM-7", 306, 2)),
        ("ç" * 70, Measured("UCS-2", 70, 1)),
        ("ç" * 71, Measured("UCS-2", 71, 2)),
        ("ç" * 134, Measured("UCS-2", 134, 2)),
        ("ç" * 135, Measured("UCS-2", 135, 3)),
        ("🎉", Measured("UCS-2", 2, 1)),
        ("🎉" * 35, Measured("UCS-2", 70, 1)),
        ("🎉" * 36, Measured("UCS-2", 72, 2)),
        ("🎉" * 66, Measured("UCS-2", 132, 2)),
        ("🎉" * 67, Measured("UCS-2", 134, 3)),
        ("ç" + "🎉" * 66 + "ç", Measured("UCS-2", 134, 2)),
        ("ç" + "🎉" * 66 + "çç", Measured("UCS-2", 135, 3)),
        ("tab\t", Measured("UCS-2", 4, 1)),
        ("back`tick", Measured("UCS-2", 9, 1)),
        ("\x1b", Measured("UCS-2", 1, 1)),
        ("\ud83c", Measured("UCS-2", 1, 1)),
    ],
)
def test_known_sizes(text: str, found: Measured) -> None:
    assert measure(text) == found
    assert segments(text) == found.segments
