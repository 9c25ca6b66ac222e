"""Finds, reads and checks the configuration: defaults < file < environment < flags.

Every problem is a ConfigError of one line that names file, table, key and what is allowed. The
first problem in the order of the file is reported, then the first between tables.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from dispatcher.convert import (
    EnvText,
    as_toml,
    convert,
    convert_table,
    convert_value,
    unknown_key,
)
from dispatcher.errors import ConfigError
from dispatcher.settings import (
    NAME,
    NAME_PATTERN,
    ApiConfig,
    CarrierConfig,
    Config,
    LimitConfig,
    LogConfig,
    OperatorConfig,
    ProviderConfig,
    RetentionConfig,
    RetryConfig,
    RouteConfig,
    SafetyConfig,
    SenderConfig,
    StoreConfig,
    TenantConfig,
    Text,
    WorkerConfig,
)
from dispatcher.shares import check_shares
from dispatcher.toml import Secret, toml_key, toml_value

__all__ = ["PROVIDER_KEYS", "Config", "Secret", "convert", "find", "load"]

S = TypeVar("S", bound=Struct)
T = TypeVar("T")
Environ: TypeAlias = Mapping[str, str]
Build: TypeAlias = Callable[[Any, str, Environ], T]
"""From what the file says, where it says so and the environment to a checked value."""

PROVIDER_KEYS = frozenset(ProviderConfig.__struct_fields__) - {"settings"}
"""The keys that every kind of provider has."""

FILE_NAME = "dispatcher.toml"
FILE_VARIABLE = "DISPATCHER_CONFIG"
VARIABLE_PREFIX = "DISPATCHER__"

_SECRET_KEY = re.compile(r"(^|_)(token|secret|password|passphrase|key|auth|credentials?)$", re.I)


def find(explicit: str | None, environ: Environ, cwd: Path) -> Path:
    """The configuration file: `--config FILE`, else `$DISPATCHER_CONFIG`, else `dispatcher.toml`.

    Raises ConfigError naming the places searched.
    """
    from_variable = environ.get(FILE_VARIABLE)
    for origin, given in (("--config", explicit), (f"${FILE_VARIABLE}", from_variable)):
        if given:
            if os.path.exists(cwd / given):
                return cwd / given
            raise ConfigError(f"{origin}: there is no file {given}")
    if os.path.exists(cwd / FILE_NAME):
        return cwd / FILE_NAME
    raise ConfigError(
        f"no configuration: searched --config (not given), ${FILE_VARIABLE} (not set) "
        f"and {cwd / FILE_NAME} (not there)"
    )


def load(
    path: Path | None, environ: Environ, flags: Mapping[str, Any] = MappingProxyType({})
) -> Config:
    """The effective configuration, with every secret resolved.

    A variable `DISPATCHER__TABLE__KEY` or `DISPATCHER__PROVIDERS__NAME__KEY` stands above the
    file: case does not matter, `_` also matches `-` and `.`, items of a list are counted from 0,
    and the value is TOML or plain text, whichever the key allows. `flags` are above all; their
    keys are dotted ("store.url") and None means not given.

    Raises ConfigError.
    """
    try:
        tree = {} if path is None else _read(path)
        for variable in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
            steps = variable.removeprefix(VARIABLE_PREFIX).split("__")
            _put(tree, steps, EnvText(environ[variable], variable), variable)
        for flag, value in flags.items():
            if value is not None:
                _put(tree, flag.split("."), value, flag)
        config = _build(tree, environ)
        _check_references(config)
        check_shares(config)
        _check_access(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None
    return replace(config, store=replace(config.store, places=_places(config)))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}") from None


# Values from the environment and from flags


def _put(tree: dict[str, Any], steps: list[str], value: object, origin: str) -> None:
    node: Any = tree
    for step in steps[:-1]:
        if isinstance(node, dict):
            node = node.setdefault(_match(node, step, origin), {})
        else:
            node = _item(node, step, origin)
    if not isinstance(node, dict) or not steps[-1]:
        raise ConfigError(f"{origin} does not name a key of a table")
    node[_match(node, steps[-1], origin)] = value


def _match(table: Mapping[str, Any], step: str, origin: str) -> str:
    found = [key for key in table if _folded(key) == _folded(step)]
    if len(found) > 1:
        raise ConfigError(f"{origin} matches more than one key: {', '.join(found)}")
    return found[0] if found else step.lower()


def _folded(key: str) -> str:
    return re.sub(r"[-.]", "_", key.lower())


def _item(node: object, step: str, origin: str) -> Any:
    if isinstance(node, list) and step.isdecimal() and int(step) < len(node):
        return node[int(step)]
    raise ConfigError(f"{origin} does not name a key of a table")


# From tables to structs


def _build(tree: Mapping[str, Any], environ: Environ) -> Config:
    sections: dict[str, Any] = {}
    for name, content in tree.items():
        if name not in _SECTIONS:
            raise unknown_key("", name, content, _SECTIONS)
        sections[name] = _SECTIONS[name](as_toml(content), name, environ)
    return Config(**sections)


def _table(type_: type[S]) -> Build[S]:
    def build(content: Any, where: str, environ: Environ) -> S:
        return convert_table(_leaf(content, where, environ), type_, where)

    return build


def _named(build: Build[T]) -> Build[dict[str, T]]:
    def build_all(content: Any, where: str, environ: Environ) -> dict[str, T]:
        tables = {}
        for name, table in _as_table(content, where).items():
            if not re.match(NAME_PATTERN, name):
                raise ConfigError(f"{where}.{toml_key(name)} must have {NAME}")
            tables[name] = build(as_toml(table), f"{where}.{toml_key(name)}", environ)
        return tables

    return build_all


def _listed(build: Build[T]) -> Build[tuple[T, ...]]:
    def build_all(content: Any, where: str, environ: Environ) -> tuple[T, ...]:
        if not isinstance(content, list):
            raise ConfigError(f"{where} must be written as [[{where}]], once for each of them")
        return tuple(
            build(table, f"{where}[{index}]", environ) for index, table in enumerate(content)
        )

    return build_all


def _store(content: Any, where: str, environ: Environ) -> StoreConfig:
    table = _leaf(content, where, environ)
    if isinstance(table.get("url"), Secret):
        table["url"] = table["url"].reveal()  # a password inside prints masked
    return convert_table(table, StoreConfig, where)


def _provider(content: Any, where: str, environ: Environ) -> ProviderConfig:
    table = _leaf(content, where, environ)
    settings = {key: _hidden(key, table.pop(key)) for key in [*table] if key not in PROVIDER_KEYS}
    return replace(convert_table(table, ProviderConfig, where), settings=settings)


def _sender(content: Any, where: str, environ: Environ) -> SenderConfig:
    literals = {
        provider: convert_value(value, tuple[Text, ...], f"{where}.{toml_key(provider)}")
        for provider, value in _leaf(content, where, environ).items()
    }
    for provider, texts in literals.items():
        if not texts:
            raise ConfigError(f"{where}.{provider} must list at least one sender")
    return literals


def _limit(content: Any, where: str, environ: Environ) -> LimitConfig:
    table = _leaf(content, where, environ)
    name = table.get("name")
    return convert_table(
        table, LimitConfig, f"limits.{toml_key(name)}" if isinstance(name, str) else where
    )


def _route(content: Any, where: str, environ: Environ) -> RouteConfig:
    table = _leaf(content, where, environ)
    providers = as_toml(table.get("providers"))
    if isinstance(providers, list):
        table["providers"] = [{"name": p} if isinstance(p, str) else p for p in providers]
    elif isinstance(providers, str):
        table["providers"] = [{"name": providers}]
    return convert_table(table, RouteConfig, where)


_SECTIONS: Mapping[str, Build[Any]] = {
    "store": _store,
    "worker": _table(WorkerConfig),
    "log": _table(LogConfig),
    "api": _table(ApiConfig),
    "tenants": _named(_table(TenantConfig)),
    "operators": _named(_table(OperatorConfig)),
    "providers": _named(_provider),
    "senders": _named(_sender),
    "carriers": _named(_table(CarrierConfig)),
    "limits": _listed(_limit),
    "routes": _listed(_route),
    "retry": _table(RetryConfig),
    "retention": _table(RetentionConfig),
    "safety": _table(SafetyConfig),
}


def _as_table(content: Any, where: str) -> dict[str, Any]:
    table = as_toml(content)
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table, got {toml_value(table)}")
    return table


def _leaf(content: Any, where: str, environ: Environ) -> dict[str, Any]:
    resolved: dict[str, Any] = _resolved(_as_table(content, where), where, environ)
    return resolved


# Secrets


def _resolved(value: Any, where: str, environ: Environ) -> Any:
    """The same value with what `env:NAME` and `file:/path` stand for."""
    match value:
        case dict():
            return {k: _resolved(v, f"{where}.{toml_key(k)}", environ) for k, v in value.items()}
        case list():
            return [_resolved(item, f"{where}[{i}]", environ) for i, item in enumerate(value)]
        case str() if value.startswith("env:"):
            return _from_environ(value.removeprefix("env:"), where, environ)
        case str() if value.startswith("file:"):
            return _from_file(value.removeprefix("file:"), where)
    return value


def _from_environ(variable: str, where: str, environ: Environ) -> Secret:
    text = environ.get(variable)
    if not text:
        state = "not set" if text is None else "empty"
        raise ConfigError(f"{where} needs the environment variable {variable}, which is {state}")
    return Secret(text)


def _from_file(name: str, where: str) -> Secret:
    if not Path(name).is_absolute():
        raise ConfigError(f'{where} must be "file:" and an absolute path, got "file:{name}"')
    try:
        text = Path(name).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"{where} needs the file {name}: {reason}") from None
    if not text:
        raise ConfigError(f"{where} needs the file {name}, which is empty")
    return Secret(text)


def _hidden(key: str, value: Any) -> Any:
    """What a provider kind gets under a key that sounds secret never prints, env: or not."""
    match value:
        case dict():
            return {name: _hidden(name, item) for name, item in value.items()}
        case list():
            return [_hidden(key, item) for item in value]
        case str() if _SECRET_KEY.search(key):
            return Secret(str(value))
    return value


# Between tables


def _check_references(config: Config) -> None:
    for where, provider in _provider_names(config):
        if provider not in config.providers:
            known = ", ".join(config.providers) or "none"
            raise ConfigError(
                f"{where} names an unknown provider {toml_value(provider)}; known: {known}"
            )
    owners: dict[str, str] = {}
    for name, carrier in config.carriers.items():
        for prefix in carrier.prefixes:
            owner = owners.setdefault(prefix, name)
            if owner != name:
                raise ConfigError(f"carriers.{name}.prefixes: {prefix} is in carriers.{owner} too")
    names = [limit.name for limit in config.limits]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"limits.{name}: there is more than one limit of this name")
    _check_tenants(config)


def _check_tenants(config: Config) -> None:
    """Without [tenants] everybody is `default`, or what `send --tenant` says."""
    for limit in config.limits:
        if config.tenants and limit.tenant not in (None, "default", *config.tenants):
            raise ConfigError(
                f"limits.{limit.name}.tenant names an unknown tenant {toml_value(limit.tenant)}; "
                f"known: {', '.join(config.tenants)}"
            )


def _provider_names(config: Config) -> Iterator[tuple[str, str]]:
    for name, sender in config.senders.items():
        yield from ((f"senders.{name}", provider) for provider in sender)
    for limit in config.limits:
        if limit.provider is not None:
            yield f"limits.{limit.name}.provider", limit.provider
    for index, route in enumerate(config.routes):
        yield from ((f"routes[{index}].providers", choice.name) for choice in route.providers)


def _places(config: Config) -> dict[str, str]:
    return {name: item.cell for name, item in config.providers.items()}


def _check_access(config: Config) -> None:
    owners: dict[Secret, str] = {}
    for where, holders in (("tenants", config.tenants), ("operators", config.operators)):
        for name, holder in holders.items():
            for token in holder.token:
                owner = owners.setdefault(token, f"{where}.{name}")
                if owner != f"{where}.{name}":
                    raise ConfigError(f"{where}.{name}.token is the token of {owner} too")
    if not config.api.local and not config.tenants:
        raise ConfigError(
            f'api.host "{config.api.host}" lets other machines in, so there must be [tenants]; '
            'without them it must be "127.0.0.1", "::1" or "localhost"'
        )
