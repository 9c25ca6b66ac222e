"""Reads `application/x-www-form-urlencoded` strictly: what lenient servers let pass is refused."""

from __future__ import annotations

_HEX = "0123456789abcdefABCDEF"
_BYTES = {f"{a}{b}".encode(): bytes([int(a + b, 16)]) for a in _HEX for b in _HEX}


def read_form(body: bytes) -> list[tuple[str, str]]:
    """The name and value pairs in order.

    Raises ValueError on an escape that is not `%` and two hex digits, a pair without `=`, and
    bytes that are not UTF-8.
    """
    if not body:
        return []
    try:
        return [_read_pair(pair) for pair in body.replace(b"+", b" ").split(b"&")]
    except KeyError:
        raise ValueError("a % is not followed by two hex digits") from None
    except UnicodeDecodeError:
        raise ValueError("a value is not UTF-8") from None


def _read_pair(pair: bytes) -> tuple[str, str]:
    name, equals, value = pair.partition(b"=")
    if not equals:
        raise ValueError("a parameter has no =")
    if b"%" in pair:
        name, value = _unescape(name), _unescape(value)
    return name.decode(), value.decode()


def _unescape(raw: bytes) -> bytes:
    head, *escaped = raw.split(b"%")
    return head + b"".join([_BYTES[part[:2]] + part[2:] for part in escaped])
