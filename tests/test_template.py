"""Text templates: what they accept, what they render, what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidMessage
from dispatcher.template import Template


def render(source: str, **parameters: str | None) -> str:
    return Template.compile(source).bind(list(parameters))(list(parameters.values()))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("Hello", "Hello"),
        ("Hi {name}", "Hi Ann"),
        ("{name}", "Ann"),
        ("{name}{code}", "Ann4711"),
        ("{code}, {name}, {code}!", "4711, Ann, 4711!"),
        ("{{name}}", "{name}"),
        ("{{{name}}}", "{Ann}"),
        ("{{}}", "{}"),
        ("{{{{", "{{"),
        ("100 % of {name} %s {code} %(x)s", "100 % of Ann %s 4711 %(x)s"),
        ("{_}{A1}", "under-score"),
        ("line 1\nline 2 {name} €", "line 1\nline 2 Ann €"),
    ],
)
def test_text_parameters_and_literal_braces(source: str, text: str) -> None:
    assert render(source, name="Ann", code="4711", _="under-", A1="score") == text


@pytest.mark.parametrize(
    ("source", "character", "position"),
    [
        ("{", "{", 1),
        ("}", "}", 1),
        ("a}b", "}", 2),
        ("Hi {name", "{", 4),
        ("Hi {name}}", "}", 10),
        ("{{name}", "}", 7),
        ("Hi {}", "{", 4),
        ("{0}", "{", 1),
        ("{ name }", "{", 1),
        ("{name!r}", "{", 1),
        ("{name:>10}", "{", 1),
        ("{name.upper}", "{", 1),
        ("{name[0]}", "{", 1),
        ("{first-name}", "{", 1),
        ("{größe}", "{", 1),
        ("{name\n}", "{", 1),
        ("{a}{b}{{}{c}", "}", 9),
    ],
)
def test_anything_else_is_refused_with_its_position(
    source: str, character: str, position: int
) -> None:
    with pytest.raises(InvalidMessage, match=f'"{character}" at character {position} ') as caught:
        Template.compile(source)
    assert caught.value.code == "invalid_template"


def test_names_are_distinct_and_in_order_of_first_use() -> None:
    template = Template.compile("{b} {a} {{c}} {b} {d}")
    assert template.names == ("b", "a", "d")
    assert template.source == "{b} {a} {{c}} {b} {d}"


def test_values_are_picked_by_the_place_of_their_column() -> None:
    template = Template.compile("{a}-{b}")
    assert template.bind(("a", "b"))(("1", "2")) == "1-2"
    assert template.bind(("x", "b", "a"))(("0", "2", "1")) == "1-2"


@pytest.mark.parametrize("source", ["{name}", "{code} {name}"])
def test_a_column_that_is_missing_is_named_when_binding(source: str) -> None:
    with pytest.raises(InvalidMessage, match='"name"') as caught:
        Template.compile(source).bind(("code", "Name"))
    assert caught.value.code == "missing_parameter"


@pytest.mark.parametrize("source", ["{name}", "{code} {name} {code}"])
def test_a_null_is_named_when_rendering(source: str) -> None:
    with pytest.raises(InvalidMessage, match='"name"') as caught:
        render(source, code="4711", name=None)
    assert caught.value.code == "missing_parameter"


def test_an_empty_string_is_a_value_and_an_unused_null_does_no_harm() -> None:
    assert render("[{a}]", a="", other=None) == "[]"
    assert render("[{a}{b}]", a="", b="", other=None) == "[]"


def test_values_are_never_read_as_templates() -> None:
    assert render("{a} {b}", a="{b} %s {{", b="}") == "{b} %s {{ }"


def test_equal_sources_give_equal_templates() -> None:
    assert Template.compile("Hi {a}") == Template.compile("Hi {a}")
    assert hash(Template.compile("Hi {a}")) == hash(Template.compile("Hi {a}"))
    assert Template.compile("Hi {a}") != Template.compile("Hi {b}")


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)


@given(st.text())
def test_escaped_text_renders_as_itself(text: str) -> None:
    assert render(escaped(text)) == text


@given(st.lists(st.tuples(st.text(), names, st.text())), st.text())
def test_pieces_render_in_their_order(pieces: list[tuple[str, str, str]], end: str) -> None:
    values = {name: value for _, name, value in pieces}
    source = "".join(f"{escaped(text)}{{{name}}}" for text, name, _ in pieces) + escaped(end)
    expected = "".join(text + values[name] for text, name, _ in pieces) + end
    assert render(source, **values) == expected
    assert Template.compile(source).names == tuple(values)


@given(st.text("{}a1 ", max_size=12))
def test_what_compiles_is_what_the_standard_formatter_reads_the_same_way(source: str) -> None:
    try:
        template = Template.compile(source)
    except InvalidMessage:
        return
    row = ["v"] * len(template.names)
    assert template.bind(template.names)(row) == source.format(**dict.fromkeys(template.names, "v"))
