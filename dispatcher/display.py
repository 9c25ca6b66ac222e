"""Prints a configuration, as TOML or as plain values, secrets as `***`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from dispatcher.settings import NAMED_TABLES, Config, ProviderConfig, RouteProvider
from dispatcher.toml import MASK, Secret, masked, toml_key, toml_value
from dispatcher.units import Duration, Rates, format_duration


def to_builtins(config: Config) -> dict[str, Any]:
    """The effective configuration as it would be written in a file, secrets as `***`."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def to_toml(config: Config) -> str:
    """The effective configuration as TOML, secrets as `***`."""
    blocks: list[str] = []
    for section, content in to_builtins(config).items():
        if isinstance(content, list):
            blocks += [_block(f"[[{section}]]", table) for table in content]
        elif section in NAMED_TABLES:
            blocks += [_block(f"[{section}.{toml_key(n)}]", table) for n, table in content.items()]
        else:
            blocks.append(_block(f"[{section}]", content))
    return "\n".join(blocks)


def _plain(value: Any) -> Any:
    match value:
        case Secret():
            return MASK
        case Duration():
            return format_duration(value)
        case Rates():
            return value.texts[0] if len(value.texts) == 1 else value.texts
        case RouteProvider(weight=None):
            return value.name
        case ProviderConfig():
            common = asdict(value)
            settings = common.pop("settings")
            return _plain({**common, **settings})
        case Struct():
            derived = getattr(value, "derived", ())
            return _plain({key: v for key, v in asdict(value).items() if key not in derived})
        case Mapping():
            return {key: _plain(item) for key, item in value.items() if _given(item)}
        case list() | tuple():
            return [_plain(item) for item in value]
        case str():
            return masked(value)
    return value


def _given(value: object) -> bool:
    return value is not None and (not isinstance(value, Rates) or bool(value.texts))


def _block(header: str, table: Mapping[str, Any]) -> str:
    lines = [f"{toml_key(key)} = {toml_value(value)}" for key, value in table.items()]
    return "\n".join([header, *lines, ""])
