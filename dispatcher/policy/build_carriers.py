"""Writes carriers.tsv from the `phonenumbers` package.

Run `python -m dispatcher.policy.build_carriers` to refresh the table. `phonenumbers` is a
development dependency; the same version of it always gives the same file.

Source of every fact: libphonenumber (https://github.com/google/libphonenumber). A carrier is
named only where libphonenumber marks the country as one without mobile number portability:
elsewhere the carrier a number was first given to says nothing about the carrier it has now.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

try:
    from phonenumbers import (
        COUNTRY_CODE_TO_REGION_CODE,
        PhoneMetadata,
        __version__,
        is_mobile_number_portable_region,
    )
    from phonenumbers.carrierdata import CARRIER_DATA
except ModuleNotFoundError:
    sys.exit("build_carriers: the development dependency phonenumbers is not installed")

TARGET = Path(__file__).with_name("carriers.tsv")
DIGITS = "0123456789"
LONGEST_NUMBER = 15
WORLD = "001"
"""libphonenumber's region of calling codes that belong to no country (satellite, freephone)."""
NUMBER_TYPES = (
    "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost",
    "personal_number", "voip", "pager", "uan", "voicemail",
)  # fmt: skip

Shape = tuple[str, ...]
"""The digits allowed at each place of a national number: ("7", "89", "0123456789")."""

_TOKEN = re.compile(r"\(\?:|\\d|\[[\d-]+\]|\d|\||\)|\?|\{\d+(?:,\d+)?\}")


def build() -> str:
    """The text of carriers.tsv: a comment line, then one line per name, `name TAB prefixes`,
    sorted, prefixes without `+`."""
    prefixes: defaultdict[str, list[str]] = defaultdict(list)
    for prefix, name in sorted(_merge(_table()).items()):
        prefixes[name].append(prefix)
    header = (
        f"# Made by python -m dispatcher.policy.build_carriers from phonenumbers {__version__}; "
        "data Copyright The Libphonenumber Authors, Apache License 2.0\n"
    )
    return header + "".join(f"{name}\t{' '.join(prefixes[name])}\n" for name in sorted(prefixes))


def _table() -> dict[str, str]:
    """Prefix → carrier name or country, for every calling code."""
    carriers = _carriers_by_calling_code()
    table: dict[str, str] = {}
    for code, regions in COUNTRY_CODE_TO_REGION_CODE.items():
        if regions[0] == WORLD:
            continue
        countries = {str(code): regions[0]}
        if len(regions) > 1:
            countries |= _shared(str(code), regions)
        for prefix in countries.keys() | carriers[code].keys():
            country = _longest(countries, prefix)
            table[prefix] = _name(country, _longest(carriers[code], prefix))
    return table


def _name(country: str, carrier: str) -> str:
    iso = country.lower()
    if not carrier or is_mobile_number_portable_region(country):
        return iso
    return f"{iso}-{slug(carrier)}"


def slug(name: str) -> str:
    """`name` in lower case ASCII letters and digits, everything else one hyphen."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _longest(table: Mapping[str, str], number: str) -> str:
    for length in range(len(number), 0, -1):
        if found := table.get(number[:length]):
            return found
    return ""


def _carriers_by_calling_code() -> defaultdict[int, dict[str, str]]:
    known = COUNTRY_CODE_TO_REGION_CODE
    carriers: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for prefix, names in CARRIER_DATA.items():
        code = next(int(prefix[:n]) for n in (1, 2, 3) if int(prefix[:n]) in known)
        if "en" in names:
            carriers[code][prefix] = names["en"]
    return carriers


def _shared(code: str, regions: Sequence[str]) -> dict[str, str]:
    """Prefix → region for a calling code that several regions use, as
    `phonenumbers.region_code_for_number` decides it: the first region whose numbers match."""
    shapes = [(region, list(_shapes(region))) for region in regions]
    return {code + prefix: region for prefix, region in _split("", shapes)}


def _split(prefix: str, shapes: list[tuple[str, list[Shape]]]) -> Iterator[tuple[str, str]]:
    """The shortest prefixes that decide between the regions; a prefix nobody uses gives none."""
    shapes = [(region, some) for region, some in shapes if some]
    if not shapes:
        return
    first, candidates = shapes[0]
    depth = len(prefix)
    settled = any(all(place == DIGITS for place in shape[depth:]) for shape in candidates)
    if len(shapes) == 1 or settled:
        yield prefix, first
        return
    for digit in DIGITS:
        narrowed = [
            (region, [shape for shape in some if len(shape) > depth and digit in shape[depth]])
            for region, some in shapes
        ]
        yield from _split(prefix + digit, narrowed)


def _shapes(region: str) -> Iterator[Shape]:
    metadata = PhoneMetadata.metadata_for_region(region)
    assert metadata is not None, region
    if metadata.leading_digits:
        for shape in expand(metadata.leading_digits):
            yield shape + (DIGITS,) * (LONGEST_NUMBER - len(shape))
        return
    for kind in NUMBER_TYPES:
        description = getattr(metadata, kind)
        if description is not None and description.national_number_pattern:
            yield from expand(description.national_number_pattern)


def expand(pattern: str) -> list[Shape]:
    """Every shape a libphonenumber pattern matches. Those patterns are made of digits, `\\d`,
    digit classes, `(?:…|…)`, `?`, `{n}` and `{m,n}` only; anything else raises ValueError."""
    tokens = _TOKEN.findall(pattern)
    if "".join(tokens) != pattern:
        raise ValueError(f"pattern {pattern!r} holds more than digits, classes and groups")
    tokens.reverse()
    return _alternatives(tokens)


def _alternatives(tokens: list[str]) -> list[Shape]:
    shapes = _sequence(tokens)
    while tokens and tokens[-1] == "|":
        tokens.pop()
        shapes += _sequence(tokens)
    return shapes


def _sequence(tokens: list[str]) -> list[Shape]:
    shapes: list[Shape] = [()]
    while tokens and tokens[-1] not in ("|", ")"):
        repeated = _repeat(_atom(tokens), tokens)
        shapes = [left + right for left in shapes for right in repeated]
    return shapes


def _atom(tokens: list[str]) -> list[Shape]:
    token = tokens.pop()
    if token == "(?:":
        shapes = _alternatives(tokens)
        tokens.pop()
        return shapes
    return [("".join(digit for digit in DIGITS if re.fullmatch(token, digit)),)]


def _repeat(shapes: list[Shape], tokens: list[str]) -> list[Shape]:
    if not tokens or tokens[-1][0] not in "?{":
        return shapes
    token = tokens.pop()
    bounds = (0, 1) if token == "?" else [int(bound) for bound in token[1:-1].split(",")]
    return [
        tuple(place for shape in chosen for place in shape)
        for times in range(bounds[0], bounds[-1] + 1)
        for chosen in product(shapes, repeat=times)
    ]


def _merge(table: Mapping[str, str]) -> dict[str, str]:
    """The same mapping with fewer prefixes: ten equal siblings become their parent, and a prefix
    whose next shorter one says the same is left out."""
    merged = dict(table)
    for length in range(max(map(len, table)), 1, -1):
        for parent in {prefix[:-1] for prefix in merged if len(prefix) == length}:
            names = {merged.get(parent + digit) for digit in DIGITS}
            if len(names) == 1 and None not in names:
                merged[parent] = str(names.pop())
    return {
        prefix: name for prefix, name in merged.items() if _longest(merged, prefix[:-1]) != name
    }


def main() -> None:
    """Write the file anew."""
    text = build()
    TARGET.write_text(text, encoding="ascii", newline="\n")
    print(f"{TARGET.name}: {len(text):,} bytes")


if __name__ == "__main__":
    main()
