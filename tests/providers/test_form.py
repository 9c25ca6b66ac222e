"""Form encoding: the same bytes as the standard library, with or without memory."""

from __future__ import annotations

from urllib.parse import quote_plus

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.providers import form
from dispatcher.providers.form import Quoter, quote_number


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_text_is_quoted_as_the_standard_library_does(texts: list[str]) -> None:
    quote = Quoter()
    for text in [*texts, *texts]:
        assert quote(text) == quote_plus(text)


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.from_regex(r"\+[0-9]{1,15}"))
def test_so_is_a_number_and_what_stands_in_its_place(to: str) -> None:
    assert quote_number(to) == quote_plus(to)


def test_the_memory_is_bounded_and_texts_beyond_it_are_right() -> None:
    quote = Quoter()
    words = [f"wört{n}" for n in range(form.WORDS_MOST + 10)]
    assert quote(" ".join(words)) == quote_plus(" ".join(words))
    assert len(quote._word.__self__) == form.WORDS_MOST  # type: ignore[attr-defined]
