"""Text templates: `{name}` is a parameter, `{{` and `}}` are literal braces, nothing else.

A template is compiled once per text, bound once to the columns of the entry's parameters, and
then rendered per message from a row of values without being read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter

from dispatcher.errors import InvalidMessage

Row = Sequence[str | None]
"""The parameters of one message, in the order of the columns."""

_TOKEN = re.compile(r"[^{}]+|\{\{|\}\}|\{[A-Za-z_][A-Za-z0-9_]*\}|[{}]")
KEPT = 256
"""Compiled templates that are remembered: the entries of a batch share their text."""
_LITERAL = {"{{": "{", "}}": "}"}


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template. Make one with `Template.compile`."""

    source: str
    names: tuple[str, ...]
    """The distinct parameters, in order of first use."""
    _literals: tuple[str, ...]
    _parameters: tuple[str, ...]

    @classmethod
    @lru_cache(KEPT)
    def compile(cls, source: str) -> Template:
        """Read `source`. Raises InvalidMessage ("invalid_template") naming the first character,
        counted from 1, that is neither text, nor a parameter, nor a doubled brace."""
        literals = [""]
        parameters = []
        for token in _TOKEN.finditer(source):
            text = token[0]
            if text in ("{", "}"):
                raise _invalid(source, token.start())
            if text[0] == "{" and text != "{{":
                parameters.append(text[1:-1])
                literals.append("")
            else:
                literals[-1] += _LITERAL.get(text, text)
        names = tuple(dict.fromkeys(parameters))
        return cls(source, names, tuple(literals), tuple(parameters))

    @property
    def fixed(self) -> str:
        """The text around the parameters."""
        return "".join(self._literals)

    @property
    def repeats(self) -> int:
        """How often a parameter is put in, that which comes most often."""
        return max(map(self._parameters.count, self.names), default=0)

    def bind(self, columns: Sequence[str]) -> Callable[[Row], str]:
        """A function that renders one row of values, which stand in the order of `columns`.

        Raises InvalidMessage ("missing_parameter") for a parameter that is no column; the function
        raises it for a parameter whose value is None. An empty string is a value.
        """
        place = {name: index for index, name in enumerate(columns)}
        for name in self.names:
            if name not in place:
                raise _missing(name)
        places = [place[name] for name in self._parameters]
        if not places:
            return lambda row: self._literals[0]
        return self._render_one(places[0]) if len(places) == 1 else self._render_many(places)

    def _render_one(self, place: int) -> Callable[[Row], str]:
        before, after = self._literals

        def render(row: Row) -> str:
            value = row[place]
            if value is None:
                raise _missing(self._parameters[0])
            return before + value + after

        return render

    def _render_many(self, places: Sequence[int]) -> Callable[[Row], str]:
        pattern = "%s".join(literal.replace("%", "%%") for literal in self._literals)
        pick = itemgetter(*places)

        def render(row: Row) -> str:
            values: tuple[str | None, ...] = pick(row)
            if None in values:
                raise _missing(self._parameters[values.index(None)])
            return pattern % values

        return render


def _invalid(source: str, position: int) -> InvalidMessage:
    return InvalidMessage(
        "invalid_template",
        f'text: "{source[position]}" at character {position + 1} belongs neither to '
        "a {name} of letters, digits and _ nor to a doubled brace",
    )


def _missing(name: str) -> InvalidMessage:
    return InvalidMessage("missing_parameter", f'parameter "{name}" has no value')
