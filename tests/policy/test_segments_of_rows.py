"""Segments of all messages of an entry are those of each rendered text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.messages import Row
from dispatcher.policy.segments import segments, segments_of
from dispatcher.template import Template

VALUES = st.text(st.sampled_from("ab^€ñ你"), max_size=30)
TEXTS = st.lists(
    st.sampled_from(["Hi ", "{a}", "{b}", "{{", "x" * 50, "^"]), min_size=1, max_size=8
)


@given(TEXTS, st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=5))
def test_each_row_has_those_of_its_text(parts: list[str], values: list[tuple[str, str]]) -> None:
    text = "".join(parts)
    rows = [Row(index, "+1", value) for index, value in enumerate(values)]
    render = Template.compile(text).bind(("a", "b"))
    found = segments_of(text, ("a", "b"), rows)
    by_index = found if isinstance(found, dict) else dict.fromkeys(range(len(rows)), found)
    assert by_index == {row.index: segments(render(row.values)) for row in rows}


@pytest.mark.parametrize(
    "text, values, expected",
    [
        ("Hi", [(None,)], 1),
        ("x" * 161, [(None,)], 2),
        ("{a}", [("x" * 160,)], 1),
        ("{a}{a}", [("x" * 81,)], 2),
        ("{a}", [("€" * 81,)], 2),
        ("{a}", [("x",), ("x" * 161,)], {0: 1, 1: 2}),
    ],
)
def test_known_sizes(text: str, values: list[tuple[str | None]], expected: object) -> None:
    rows = [Row(index, "+1", value) for index, value in enumerate(values)]
    assert segments_of(text, ("a",), rows) == expected
