"""Turns a table of plain values into a typed struct, or says in one line why it cannot.

Used for the configuration itself and by every provider kind for its own settings, so that all of
them complain alike. A type that msgspec does not know takes part by having a classmethod `parse`,
which raises ValueError, and a text `expects` for the message.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from msgspec import inspect
from msgspec.structs import FieldInfo, fields

from dispatcher.errors import ConfigError
from dispatcher.toml import Secret, toml_key, toml_value

S = TypeVar("S", bound=msgspec.Struct)


class EnvText(str):
    """A value from an environment variable: text or TOML, whichever its key allows."""

    variable: str

    def __new__(cls, text: str, variable: str) -> EnvText:
        self = super().__new__(cls, text)
        self.variable = variable
        return self


def convert(data: Mapping[str, Any], type_: type[S], where: str, also: Collection[str] = ()) -> S:
    """A struct of `type_` from one table, for instance the `settings` of a provider.

    `where` names the table in errors ("providers.twilio-eu"); `also` are further keys to think of
    when an unknown key looks misspelt. A field of type Secret takes any text; any other field that
    was given as `env:` or `file:` gets the text read there.

    Raises ConfigError: unknown key, missing key, wrong type, or the struct's own ValueError.
    """
    return convert_table(data, type_, where, also, reveal=True)


def convert_table(
    data: Mapping[str, Any],
    type_: type[S],
    where: str,
    also: Collection[str] = (),
    *,
    reveal: bool = False,
) -> S:
    """As `convert`; without `reveal` only fields of type Secret may be given as `env:`. Fields that
    the struct names in `derived` are no keys of the table."""
    derived = getattr(type_, "derived", ())
    known = {field.encode_name: field for field in fields(type_) if field.name not in derived}
    values = {}
    for key, value in data.items():
        if key not in known:
            raise unknown_key(where, key, value, [*known, *also])
        values[known[key].name] = convert_value(
            value, known[key].type, f"{where}.{toml_key(key)}", reveal=reveal
        )
    _require(known.values(), values, where)
    try:
        return type_(**values)
    except ValueError as error:
        raise ConfigError(f"{where}.{error}") from None


def convert_value(value: Any, type_: Any, where: str, *, reveal: bool = False) -> Any:
    """One value as `type_`. Raises ConfigError."""
    info = inspect.type_info(type_)
    if _holds_secret(value) and not _takes_secret(info) and not reveal:
        raise ConfigError(f'{where} cannot be "env:" or "file:": only secrets can')
    for candidate in _candidates(value, info):
        try:
            return msgspec.convert(candidate, type_, dec_hook=_parse)
        except msgspec.ValidationError:
            continue
    got = "" if _takes_secret(info) else f", got {toml_value(value)}"
    raise ConfigError(f"{where} must be {describe(info)}{got}{_origin(value)}")


def unknown_key(where: str, key: str, value: object, known: Collection[str]) -> ConfigError:
    """The error for a key that does not exist; it names the nearest that does."""
    near = get_close_matches(key.lower(), known, n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"?' if near else f"allowed: {', '.join(known) or 'none'}"
    path = f"{where}.{toml_key(key)}" if where else toml_key(key)
    return ConfigError(f"{path} is not a known key{_origin(value)}; {hint}")


def as_toml(value: Any) -> Any:
    """The value itself; from the environment the TOML it holds, else its text."""
    if not isinstance(value, EnvText):
        return value
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return str(value)
    return parsed["value"] if len(parsed) == 1 else str(value)


def describe(info: inspect.Type) -> str:
    """What a type allows, in words."""
    match info:
        case inspect.Metadata(extra_json_schema={"description": str() as text}):
            return text
        case inspect.Metadata(type=inner):
            return describe(inner)
        case inspect.UnionType(types=types):
            return " or ".join(describe(t) for t in types if not isinstance(t, inspect.NoneType))
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return f"a list, each {describe(item)}"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(toml_value(value) for value in values)
        case inspect.IntType(ge=low, le=high):
            return "an integer" + _bounds(low, high)
        case inspect.CustomType(cls=cls) | inspect.StructType(cls=cls):
            return str(getattr(cls, "expects", "a table"))
    return _PLAIN.get(type(info), "another value")


_PLAIN: Mapping[type[inspect.Type], str] = {
    inspect.StrType: "a text",
    inspect.BoolType: "true or false",
    inspect.FloatType: "a number",
    inspect.DictType: "a table",
}


def _bounds(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""


def _require(known: Iterable[FieldInfo], values: Mapping[str, Any], where: str) -> None:
    for field in known:
        if field.required and field.name not in values:
            expected = describe(inspect.type_info(field.type))
            raise ConfigError(f"{where}.{field.encode_name} is missing: it must be {expected}")


def _parse(type_: type[Any], value: object) -> Any:
    return type_.parse(value)


def _candidates(value: Any, info: inspect.Type) -> list[Any]:
    """What the value may stand for, likeliest first: a single text also for a list of one."""
    value = _revealed(value, info)
    found = [value]
    if isinstance(value, EnvText):
        parsed = as_toml(value)
        text_only = _takes_text(info) and not isinstance(parsed, str)
        found = [str(value)] if text_only else [parsed, str(value)]
    if isinstance(info, inspect.VarTupleType | inspect.ListType):
        return [[item] if isinstance(item, str | Secret) else item for item in found]
    return found


def _revealed(value: Any, info: inspect.Type) -> Any:
    if _takes_secret(info):
        return value
    match value:
        case Secret():
            return value.reveal()
        case list():
            return [_revealed(item, info) for item in value]
        case dict():
            return {key: _revealed(item, info) for key, item in value.items()}
    return value


def _holds_secret(value: object) -> bool:
    match value:
        case list():
            return any(_holds_secret(item) for item in value)
        case dict():
            return any(_holds_secret(item) for item in value.values())
    return isinstance(value, Secret)


def _takes_secret(info: inspect.Type) -> bool:
    return any(isinstance(t, inspect.CustomType) and t.cls is Secret for t in _leaves(info))


def _takes_text(info: inspect.Type) -> bool:
    if isinstance(info, inspect.VarTupleType | inspect.ListType):
        return False
    text = inspect.StrType | inspect.LiteralType
    return _takes_secret(info) or any(isinstance(t, text) for t in _leaves(info))


def _leaves(info: inspect.Type) -> Iterable[inspect.Type]:
    match info:
        case inspect.UnionType(types=types):
            return [leaf for t in types for leaf in _leaves(t)]
        case inspect.Metadata(type=inner):
            return _leaves(inner)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return _leaves(item)
    return [info]


def _origin(value: object) -> str:
    while isinstance(value, dict) and value:
        value = next(iter(value.values()))
    return f" (from {value.variable})" if isinstance(value, EnvText) else ""
