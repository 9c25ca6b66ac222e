"""Reads the records of a CSV or JSON Lines file, in constant memory, whatever their size.

A bad record is a `Rejected`, never the end of the file. Record numbers count from 0 and include bad
records, so that the number of a record does not depend on the others.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import msgspec

from dispatcher.engine.ingest import Recipient, Rejected
from dispatcher.errors import UsageError

RESERVED = ("to", "ref", "carrier")
FIELD_CHARACTERS = 1 << 20
"""Longest CSV field. It ends a quote that is never closed."""
BOM = b"\xef\xbb\xbf"
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")


class Item(NamedTuple):
    """One record and the line on which it begins."""

    line: int
    record: Recipient | Rejected


class Records(Protocol):
    """The records of one file. `columns` are its parameters, None where each record has its own."""

    columns: Sequence[str] | None

    def read(self, names: Sequence[str]) -> Iterator[Item]:
        """All records with the values of the parameters `names`, in that order."""
        ...


def open_source(path: str) -> BinaryIO:
    """A file, or - for standard input. Raises UsageError."""
    if path == "-":
        if sys.stdin is None:
            raise UsageError("-: standard input is closed")
        return sys.stdin.buffer
    try:
        return open(path, "rb")  # closed by the caller's `with`
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def open_records(source: BinaryIO, path: str) -> Records:
    """JSON Lines by the ending of the name, or where the first character is a brace; else CSV.

    Raises UsageError for an empty file and for a header that cannot be used, OSError.
    """
    buffered = source if isinstance(source, io.BufferedReader) else io.BufferedReader(source)  # type: ignore[type-var]
    start = buffered.peek(1)[:64]
    if not start:
        raise UsageError(f"{path} is empty")
    start = start.removeprefix(BOM).lstrip()
    json_lines = Path(path).suffix.lower() in JSON_ENDINGS or start.startswith(b"{")
    return JsonRecords(buffered) if json_lines else CsvRecords(buffered, path)


class CsvRecords:
    """CSV with a header line; `to` is required, columns that are not reserved are parameters."""

    def __init__(self, source: BinaryIO, path: str) -> None:
        csv.field_size_limit(FIELD_CHARACTERS)
        text = io.TextIOWrapper(source, "utf-8-sig", errors="surrogateescape", newline="")
        self._rows = csv.reader(text, strict=True)
        try:
            self._header = [name.strip() for name in next(self._rows, [])]
        except csv.Error as error:
            raise UsageError(f"{path}: the header line is not CSV: {error}") from None
        self._check(path)
        self._place = {name: at for at, name in enumerate(self._header)}
        self.columns: Sequence[str] | None = [n for n in self._header if n not in RESERVED]

    def _check(self, path: str) -> None:
        if not self._header:
            raise UsageError(f"{path}: the first line is empty; it must name the columns")
        if not all(_clean(name) for name in self._header):
            raise UsageError(f"{path}: the header is not UTF-8")
        if "to" not in self._header:
            shown = ", ".join(self._header[:20])
            hint = "; columns are separated by commas" if set(";\t") & set(shown) else ""
            raise UsageError(f"{path}: the header has no column `to` (columns: {shown}){hint}")
        twice = {name for name in self._header if self._header.count(name) > 1}
        if twice:
            named = ", ".join(f"`{name}`" if name else "an empty column" for name in sorted(twice))
            raise UsageError(f"{path}: the header names {named} twice")

    def read(self, names: Sequence[str]) -> Iterator[Item]:
        """See `Records.read`."""
        places = [self._place.get(name) for name in names]
        index, blank = 0, 0
        for line, row in self._lines():
            if not row:
                blank += 1
                continue
            for back in range(blank, 0, -1):  # blank lines at the end of a file are none
                yield Item(line - back, Rejected(index, "empty_record", "the line is empty"))
                index += 1
            blank = 0
            yield Item(line, self._record(index, row, places))
            index += 1

    def _lines(self) -> Iterator[tuple[int, list[str] | str]]:
        """Every row, or what is wrong with it, and the line on which it begins."""
        while True:
            line = self._rows.line_num + 1
            try:
                yield line, next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                last = self._rows.line_num
                upto = f" (lines {line} to {last})" if last > line else ""
                yield line, f"not CSV: {error}{upto}"

    def _record(
        self, index: int, row: list[str] | str, places: Sequence[int | None]
    ) -> Recipient | Rejected:
        if isinstance(row, str):
            return Rejected(index, "invalid_csv", row)
        if len(row) != len(self._header):
            wanted = len(self._header)
            return Rejected(index, "wrong_columns", f"{len(row)} columns, the header has {wanted}")
        if not _clean("".join(row)):
            return Rejected(index, "invalid_utf8", "the line is not UTF-8")
        values = tuple(row[at] if at is not None else None for at in places)
        return Recipient(
            index, row[self._place["to"]], values, self._extra(row, "ref"),
            self._extra(row, "carrier"),
        )  # fmt: skip

    def _extra(self, row: list[str], name: str) -> str | None:
        at = self._place.get(name)
        return (row[at] or None) if at is not None else None


class JsonRecords:
    """One JSON object a line: `to`, perhaps `ref` and `carrier`, and the parameters beside them."""

    columns: Sequence[str] | None = None

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._decode = msgspec.json.Decoder().decode

    def read(self, names: Sequence[str]) -> Iterator[Item]:
        """See `Records.read`."""
        index, blanks = 0, 0
        for number, raw in enumerate(self._source, 1):
            text = raw.strip() if number > 1 else raw.removeprefix(BOM).strip()
            if not text:
                blanks += 1
                continue
            for back in range(blanks, 0, -1):
                yield Item(number - back, Rejected(index, "empty_record", "the line is empty"))
                index += 1
            blanks = 0
            yield Item(number, self._record(index, text, names))
            index += 1

    def _record(self, index: int, text: bytes, names: Sequence[str]) -> Recipient | Rejected:
        try:
            found = self._decode(text)
        except UnicodeDecodeError:
            return Rejected(index, "invalid_utf8", "the line is not UTF-8")
        except msgspec.DecodeError as error:
            return Rejected(index, "invalid_json", str(error))
        except RecursionError:
            return Rejected(index, "invalid_json", "the line is nested too deep")
        if not isinstance(found, dict):
            return Rejected(index, "invalid_json", "the line is not a JSON object")
        return _recipient(index, found, names)


def _recipient(index: int, found: Mapping[str, Any], names: Sequence[str]) -> Recipient | Rejected:
    to = found.get("to")
    if not isinstance(to, str):
        return Rejected(index, "invalid_recipient", '"to" is missing or not a text')
    values: list[str | None] = []
    for name in names:
        value = found.get(name)
        if isinstance(value, (dict, list)):
            return Rejected(index, "invalid_parameter", f"{name} is not a text or a number")
        values.append(value if value is None or isinstance(value, str) else _number(value))
    for name in ("ref", "carrier"):
        if not isinstance(found.get(name), (str, type(None))):
            return Rejected(index, "invalid_parameter", f"{name} is not a text")
    return Recipient(index, to, tuple(values), found.get("ref"), found.get("carrier"))


def _number(value: bool | float) -> str:
    return msgspec.json.encode(value).decode()


def _clean(text: str) -> bool:
    """Whether text read with surrogateescape was UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
