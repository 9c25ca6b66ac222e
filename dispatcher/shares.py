"""Limits that span several cells: what each cell has of them.

A cell knows nothing of another one, so that each gets a fixed share of such a limit: what the table
says under `shares`, and in equal parts what this leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from dispatcher.errors import ConfigError
from dispatcher.settings import ONE_CELL, CarrierConfig, Config, LimitConfig, TenantConfig
from dispatcher.toml import toml_value

Shared: TypeAlias = CarrierConfig | TenantConfig | LimitConfig
"""A table whose limits may span cells."""

ROUNDING = 1e-9


def shares_of(config: Config, table: Shared) -> Mapping[str, float]:
    """The share of every cell with providers that the table is about."""
    cells, given = _cells(config, table), table.shares or {}
    others = [cell for cell in cells if cell not in given]
    left = 1.0 - sum(given.values())
    return {cell: given[cell] if cell in given else left / len(others) for cell in cells}


def check_shares(config: Config) -> None:
    """Every cell that may meet a limit has some of it, and together they have no more than all.

    Raises ConfigError.
    """
    for where, table in _tables(config):
        cells, given = _cells(config, table), table.shares or {}
        for cell in given:
            if cell not in cells:
                raise ConfigError(
                    f"{where}.shares names the cell {toml_value(cell)}; "
                    f"its providers are in {', '.join(cells)}"
                )
        _check_sum(where, given, [cell for cell in cells if cell not in given])
        for cell, share in shares_of(config, table).items():
            for quota in table.rate.quotas:
                if not share_of_count(quota.count, share):
                    raise ConfigError(
                        f"{where}.rate: {quota.text} leaves less than 1 for the cell {cell}"
                    )


def share_of_count(count: int, share: float) -> int:
    """How many of `count` a share is, in whole units."""
    return int(count * share + ROUNDING)


def _check_sum(where: str, given: Mapping[str, float], others: list[str]) -> None:
    total = sum(given.values())
    if total > 1 + ROUNDING:
        raise ConfigError(f"{where}.shares must add up to at most 1, got {total:g}")
    if others and total > 1 - ROUNDING:
        raise ConfigError(f"{where}.shares leaves nothing for the cell {others[0]}")


def _cells(config: Config, table: Shared) -> tuple[str, ...]:
    return config.cells(table.provider if isinstance(table, LimitConfig) else None)


def _tables(config: Config) -> Iterator[tuple[str, Shared]]:
    yield from ((f"carriers.{name}", item) for name, item in config.carriers.items())
    yield from ((f"tenants.{name}", item) for name, item in config.tenants.items())
    for item in config.limits:
        if item.each not in ONE_CELL:
            yield f"limits.{item.name}", item
