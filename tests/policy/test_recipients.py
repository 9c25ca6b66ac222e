"""What may stand in `to`, and who may be reached."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidMessage
from dispatcher.policy.recipients import Allow, normalise

PHONES = ["sms", "mms", "rcs", "voice", "whatsapp"]


def refusal(channel: str, to: str) -> str:
    with pytest.raises(InvalidMessage) as caught:
        normalise(channel, to)
    assert caught.value.code == "invalid_recipient"
    assert len(caught.value.detail.splitlines()) == 1
    assert len(caught.value.detail) < 300
    return caught.value.detail


@pytest.mark.parametrize("channel", PHONES)
@pytest.mark.parametrize(
    ("to", "number"),
    [
        ("+4915112345678", "+4915112345678"),
        ("+49 151 1234-5678", "+4915112345678"),
        (" +1 (212) 555-0100 ", "+12125550100"),
        ("+-1234567", "+1234567"),
        ("+1234567", "+1234567"),
        ("+123456789012345", "+123456789012345"),
    ],
)
def test_phone_numbers_lose_their_separators(channel: str, to: str, number: str) -> None:
    assert normalise(channel, to) == number


@pytest.mark.parametrize(
    ("to", "fault"),
    [
        ("", "is empty"),
        (" ()- ", "is empty"),
        ("4915112345678", "has no leading +"),
        ("0151 12345678", "has no leading +"),
        ("004915112345678", "has no leading +"),
        ("+", "is too short (0 digits)"),
        ("+123456", "is too short (6 digits)"),
        ("+1234567890123456", "is too long (16 digits)"),
        ("+1555CALLNOW", "contains 'C'"),
        ("++4915112345678", "contains '+'"),
        ("+49.151.12345678", "contains '.'"),
        ("+49151/12345678", "contains '/'"),
        ("+4915112345678\n", r"contains '\n'"),
        ("+491511234567²", "contains '²'"),
        ("+٤٩١٥١١٢٣٤٥٦٧٨", "contains '٤'"),
        ("ann@example.org", "contains 'a'"),
        ("+" + "9" * 100_000, "is too long (100000 digits)"),
    ],
)
def test_a_refused_phone_number_says_what_is_wrong(to: str, fault: str) -> None:
    detail = refusal("sms", to)
    assert fault in detail
    assert "7 to 15 digits" in detail


@given(st.text(alphabet="0123456789 -()+a٣²", max_size=24))
def test_a_phone_number_is_accepted_exactly_when_its_digits_count(to: str) -> None:
    number = "".join(character for character in to if character not in " -()")
    digits = number[1:]
    if number[:1] == "+" and 7 <= len(digits) <= 15 and set(digits) <= set("0123456789"):
        assert normalise("sms", to) == number
        assert normalise("sms", number) == number
    else:
        refusal("sms", to)


@pytest.mark.parametrize(
    ("to", "address"),
    [
        ("ann@example.org", "ann@example.org"),
        ("Ann.Lee+shop@Mail.Example.ORG", "Ann.Lee+shop@mail.example.org"),
        ("o'brien_%&=@example.co.uk", "o'brien_%&=@example.co.uk"),
        ("jürgen@müller.DE", "jürgen@müller.de"),
        ("a@1.io", "a@1.io"),
        ("a@xn--mller-kva.de", "a@xn--mller-kva.de"),
        ("a" * 64 + "@example.org", "a" * 64 + "@example.org"),
        ("a@" + "b" * 63 + ".org", "a@" + "b" * 63 + ".org"),
    ],
)
def test_addresses_keep_their_local_part_and_get_a_lower_case_domain(to: str, address: str) -> None:
    assert normalise("email", to) == address
    assert normalise("email", address) == address


@pytest.mark.parametrize(
    ("to", "fault"),
    [
        ("", "is empty"),
        ("ann", "has 0 @ signs"),
        ("ann@lee@example.org", "has 2 @ signs"),
        ("@example.org", "has nothing before the @"),
        ("ann@", "has no dot after the @"),
        ("ann@localhost", "has no dot after the @"),
        ("ann@example..org", "has no valid domain"),
        ("ann@.org", "has no valid domain"),
        ("ann@example.org.", "has no valid domain"),
        ("ann@-example.org", "has no valid domain"),
        ("ann@example-.org", "has no valid domain"),
        ("ann@exam_ple.org", "has no valid domain"),
        ("ann@[127.0.0.1]", "has no valid domain"),
        ("a@" + "b" * 64 + ".org", "has no valid domain"),
        ("ann lee@example.org", "(' ' at character 4)"),
        (" ann@example.org", "(' ' at character 1)"),
        ("ann@example.org\n", r"('\n' at character 16)"),
        ("ann@example.org\r\nBcc: x@example.org", r"('\r' at character 16)"),
        ("an\x00n@example.org", r"('\x00' at character 3)"),
        ("ann\u200b@example.org", r"('\u200b' at character 4)"),
        ("ann\u2028@example.org", r"('\u2028' at character 4)"),
        ("ann<ann@example.org>", "contains '<' before the @"),
        ("ann,bob@example.org", "contains ',' before the @"),
        ('"ann"@example.org', "contains '\"' before the @"),
        (".ann@example.org", "has a dot at an end or two in a row"),
        ("ann.@example.org", "has a dot at an end or two in a row"),
        ("a..b@example.org", "has a dot at an end or two in a row"),
        ("a" * 65 + "@example.org", "has 65 characters before the @; at most 64"),
        ("a@" + "b." * 125 + "org", "is too long (255 characters; at most 254)"),
    ],
)
def test_a_refused_address_says_what_is_wrong(to: str, fault: str) -> None:
    assert fault in refusal("email", to)


def test_an_address_may_have_254_characters() -> None:
    address = "a@" + "b." * 124 + "orgs"
    assert len(address) == 254
    assert normalise("email", address) == address


@given(st.emails())
def test_every_address_of_a_generator_is_accepted(address: str) -> None:
    local, _, domain = address.partition("@")
    assert normalise("email", address) == f"{local}@{domain.lower()}"


@pytest.mark.parametrize("channel", ["push", "messenger", "instagram"])
def test_tokens_stay_as_they_are(channel: str) -> None:
    for token in ("x", "fGk:APA91b_-" * 12, "a" * 4096, "24001234567890"):
        assert normalise(channel, token) == token


@pytest.mark.parametrize("channel", ["push", "messenger"])
@pytest.mark.parametrize(
    ("to", "fault"),
    [
        ("", "is empty"),
        ("a b", "(' ' at character 2)"),
        ("a\t", r"('\t' at character 2)"),
        ("\x7f", r"('\x7f' at character 1)"),
        ("a" * 4097, "is too long (4097 characters; at most 4096)"),
    ],
)
def test_a_refused_token_says_what_is_wrong(channel: str, to: str, fault: str) -> None:
    assert fault in refusal(channel, to)


@pytest.mark.parametrize(
    ("patterns", "to", "permitted"),
    [
        ([], "+15550100", True),
        (["+1555*"], "+15550100", True),
        (["+1555*"], "+1555", True),
        (["+1555*"], "+25550100", False),
        (["+1555*"], "0+15550100", False),
        (["+15550100"], "+15550100", True),
        (["+15550100"], "+155501001", False),
        (["+49*", "*@example.org"], "ann@example.org", True),
        (["+49*", "*@example.org"], "ann@example.org.evil.net", False),
        (["*@example.org"], "ann@exampleXorg", False),
        (["a?c"], "abc", False),
        (["a?c"], "a?c", True),
        (["[ab]"], "a", False),
        (["a*b*c"], "a-b-b-c", True),
        (["*"], "anything", True),
        ([""], "+15550100", False),
    ],
)
def test_only_the_star_is_a_wildcard(patterns: list[str], to: str, permitted: bool) -> None:
    assert Allow(patterns).permits(to) is permitted


@given(st.lists(st.text("ab*+|.", max_size=5), min_size=1, max_size=4), st.text("ab+|.\n"))
def test_patterns_match_as_file_name_patterns_do(patterns: list[str], to: str) -> None:
    expected = any(fnmatchcase(to, pattern) for pattern in patterns)
    assert Allow(patterns).permits(to) is expected
