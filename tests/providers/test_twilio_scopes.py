"""Whom Twilio asks to go slower, by its code."""

from __future__ import annotations

import pytest

from dispatcher.errors import Throttled
from dispatcher.providers.twilio import ERRORS, SCOPES
from tests.providers.samples import answer, provider

CODES = {
    "account": (20429, 63017, 63038),
    "sender": (21611, 30001, 30022, 30023, 30027, 63018, 63119),
    "recipient": (14107,),
}


@pytest.mark.parametrize(
    ("code", "scope"), [(code, scope) for scope, codes in CODES.items() for code in codes]
)
def test_a_throttled_code_has_its_scope(code: int, scope: str) -> None:
    verdict = provider("twilio").read(answer(429, {"code": code}, retry_after="7"))
    assert isinstance(verdict, Throttled)
    assert (verdict.code, verdict.scope, verdict.retry_after) == (str(code), scope, 7)


def test_an_answer_without_a_code_is_about_the_account() -> None:
    verdict = provider("twilio").read(answer(429, None))
    assert isinstance(verdict, Throttled)
    assert verdict.scope == "account"


def test_only_throttled_codes_have_a_scope() -> None:
    assert {ERRORS[code] for code in SCOPES} == {Throttled}
