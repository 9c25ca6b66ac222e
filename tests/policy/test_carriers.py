"""Carriers of phone numbers, mailboxes and messengers; the table is checked against its source."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import ConfigError
from dispatcher.policy import carriers
from dispatcher.policy.carriers import Carriers, mailbox

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

TABLE = Carriers({})
FILE = Path(carriers.__file__).with_name("carriers.tsv")
ROWS = {
    f"+{prefix}": name
    for name, _, prefixes in (row.partition("\t") for row in FILE.read_text().splitlines()[1:])
    for prefix in prefixes.split()
}
MIN_SAME_COUNTRY = 0.999
MIN_SAME_CARRIER = 0.98
"""Agreement with libphonenumber: of all numbers, and of those for which it or the table names a
carrier. The rest is what a prefix cannot tell: whether it is a landline, how long the number is."""


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("+12125550100", "us"),
        ("+14165550100", "ca"),
        ("+18765550100", "jm"),
        ("+18095550100", "do"),
        ("+18295550100", "do"),
        ("+17875550100", "pr"),
        ("+12425550100", "bs"),
        ("+16715550100", "gu"),
        ("+79161234567", "ru"),
        ("+77011234567", "kz"),
        ("+447400123456", "gb"),
        ("+447781123456", "gg"),
        ("+447797712345", "je"),
        ("+447624123456", "im"),
        ("+393123456789", "it"),
        ("+390669812345", "va"),
        ("+61412345678", "au"),
        ("+61891621234", "cc"),
        ("+61891641234", "cx"),
        ("+212650123456", "ma"),
        ("+262692123456", "re"),
        ("+262639012345", "yt"),
        ("+358412345678", "fi"),
        ("+35818123456", "ax"),
        ("+4740612345", "no"),
        ("+4779123456", "sj"),
        ("+590690001234", "gp"),
        ("+590590271234", "bl"),
        ("+59995181234", "cw"),
        ("+5993181234", "bq"),
        ("+4915112345678", "de"),
        ("+38343201234", "xk"),
    ],
)
def test_a_number_gives_its_country_also_where_calling_codes_are_shared(
    number: str, country: str
) -> None:
    assert TABLE.country(number) == country


@pytest.mark.parametrize(
    ("number", "carrier"),
    [
        ("+8613912345678", "cn-china-mobile"),
        ("+97150123456", "ae-etisalat"),
        ("+9379123456", "af-roshan"),
        ("+4915112345678", "de"),
        ("+12125550100", "us"),
        ("+393123456789", "it"),
    ],
)
def test_the_table_names_carriers_only_where_numbers_cannot_be_ported(
    number: str, carrier: str
) -> None:
    assert TABLE.carrier(number) == carrier


@pytest.mark.parametrize(
    "number",
    ["+870301234567", "+80012345678", "+99912345678", "+00012345678", "+9", "+", "", "4915112345"],
)
def test_numbers_of_no_country_have_no_carrier(number: str) -> None:
    assert TABLE.carrier(number) == "other"
    assert TABLE.country(number) == "other"


def test_the_longest_configured_prefix_wins() -> None:
    known = Carriers({"telekom": ["+49151", "+49160"], "reseller": ["+4915112"]})
    assert known.carrier("+4915199999999") == "telekom"
    assert known.carrier("+4916012345678") == "telekom"
    assert known.carrier("+4915112345678") == "reseller"
    assert known.carrier("+4917612345678") == "de"


@pytest.mark.parametrize("prefix", ["+8", "+86", "+861", "+8613", "+861391"])
def test_a_configured_prefix_wins_over_a_longer_one_of_the_table(prefix: str) -> None:
    known = Carriers({"partner": [prefix]})
    assert known.carrier("+8613912345678") == "partner"
    assert known.country("+8613912345678") == "cn"
    assert known.carrier("+97150123456") == "ae-etisalat"


def test_a_configured_prefix_leaves_the_numbers_beside_it_alone() -> None:
    known = Carriers({"partner": ["+861391"]})
    assert known.carrier("+8613922345678") == "cn-china-mobile"


def test_a_configured_prefix_may_be_a_whole_number_or_no_country_at_all() -> None:
    known = Carriers({"test-phone": ["+491511234567890"], "satellite": ["+8816"]})
    assert known.carrier("+491511234567890") == "test-phone"
    assert known.carrier("+491511234567891") == "de"
    assert known.carrier("+881612345678") == "satellite"
    assert known.country("+881612345678") == "other"


@pytest.mark.parametrize(
    "prefix", ["49151", "+", "", "+49 151", "+49151*", "+4915112345678901", "+٤٩"]
)
def test_a_malformed_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"\[carriers\.telekom\] prefixes: .* 1 to 15 digits"):
        Carriers({"telekom": [prefix]})


def test_a_prefix_belongs_to_one_carrier() -> None:
    with pytest.raises(ConfigError, match=r'\[carriers\.b\].*"\+49151".*\[carriers\.a\]'):
        Carriers({"a": ["+49151"], "b": ["+49170", "+49151"]})
    assert Carriers({"a": ["+49151", "+49151"]}).carrier("+4915112345678") == "a"


prefixes = st.from_regex(r"\+[1-9][0-9]{0,8}", fullmatch=True)


@given(
    configured=st.dictionaries(st.sampled_from("abc"), st.lists(prefixes, max_size=4)),
    start=st.one_of(prefixes, st.sampled_from(sorted(ROWS))),
    rest=st.text("0123456789", min_size=6, max_size=8),
    data=st.data(),
)
def test_every_look_up_equals_a_search_through_all_prefixes(
    configured: dict[str, list[str]], start: str, rest: str, data: st.DataObject
) -> None:
    owners: dict[str, str] = {}
    for name, mine in configured.items():
        configured[name] = [prefix for prefix in mine if owners.setdefault(prefix, name) == name]
    number = data.draw(st.sampled_from([start, *owners])) + rest
    expected = _search(owners, number) or _search(ROWS, number) or "other"
    assert Carriers(configured).carrier(number) == expected


def _search(table: dict[str, str], number: str) -> str | None:
    matching = [prefix for prefix in table if number.startswith(prefix)]
    return table[max(matching, key=len)] if matching else None


@pytest.mark.parametrize(
    ("address", "provider"),
    [
        ("ann@gmail.com", "google"),
        ("ann@googlemail.com", "google"),
        ("Ann@GMail.com", "google"),
        ("ann@outlook.com", "microsoft"),
        ("ann@hotmail.co.uk", "microsoft"),
        ("ann@live.nl", "microsoft"),
        ("ann@yahoo.com.br", "yahoo"),
        ("ann@ymail.com", "yahoo"),
        ("ann@icloud.com", "apple"),
        ("ann@me.com", "apple"),
        ("ann@mac.com", "apple"),
        ("ann@gmx.net", "gmx"),
        ("ann@gmx.at", "gmx"),
        ("ann@web.de", "gmx"),
        ("ann@proton.me", "proton"),
        ("ann@qq.com", "qq"),
        ("ann@example.org", "other-mail"),
        ("ann@hotmail.example.org", "other-mail"),
        ("ann@notgmail.com", "other-mail"),
        ("ann@gmail.com.example.org", "other-mail"),
        ("gmail.com@example.org", "other-mail"),
        ("hotmail", "other-mail"),
        ("", "other-mail"),
    ],
)
def test_an_address_gives_its_mailbox_provider(address: str, provider: str) -> None:
    assert mailbox(address) == provider


@pytest.mark.parametrize(
    ("channel", "to", "carrier"),
    [
        ("sms", "+8613912345678", "cn-china-mobile"),
        ("mms", "+12125550100", "us"),
        ("rcs", "+4915112345678", "telekom"),
        ("voice", "+4915112345678", "telekom"),
        ("whatsapp", "+4915112345678", "meta"),
        ("messenger", "24001234567890", "meta"),
        ("instagram", "17841400000000", "meta"),
        ("email", "ann@gmail.com", "google"),
        ("email", "ann@example.org", "other-mail"),
        ("push", "+4915112345678", "other"),
    ],
)
def test_each_channel_has_its_own_kind_of_carrier(channel: str, to: str, carrier: str) -> None:
    assert Carriers({"telekom": ["+49151"]}).of(channel, to) == carrier


class TestAgainstItsSource:
    """The table compared with the `phonenumbers` package it was made from."""

    @pytest.fixture(autouse=True)
    def source(self) -> None:
        pytest.importorskip("phonenumbers", reason="phonenumbers is not installed")

    def test_countries_and_carriers_agree(self) -> None:
        from phonenumbers import region_code_for_number
        from phonenumbers.carrier import safe_display_name

        from dispatcher.policy.build_carriers import slug

        countries: list[bool] = []
        named: list[bool] = []
        for number, parsed in _valid_numbers(random.Random(2026)):
            country = str(region_code_for_number(parsed)).lower()
            name = safe_display_name(parsed, "en")
            expected = f"{country}-{slug(name)}" if name else country
            carrier = TABLE.carrier(number)
            countries.append(TABLE.country(number) == country)
            if name or carrier != country:
                named.append(carrier == expected)
        assert len(countries) > 10_000
        assert sum(countries) >= MIN_SAME_COUNTRY * len(countries)
        assert len(named) > 1500
        assert sum(named) >= MIN_SAME_CARRIER * len(named)

    def test_the_file_is_what_the_generator_makes(self) -> None:
        import phonenumbers

        from dispatcher.policy.build_carriers import build

        committed = FILE.read_text(encoding="ascii")
        header = committed.partition("\n")[0]
        assert "Apache License 2.0" in header
        if f"phonenumbers {phonenumbers.__version__};" not in header:
            pytest.skip(f"made from another version than {phonenumbers.__version__}: {header}")
        assert build() == committed

    def test_pattern_shapes(self) -> None:
        from dispatcher.policy.build_carriers import expand

        assert expand(r"7(?:1|[3-5]2?)\d{0,1}") == [
            ("7", "1"),
            ("7", "1", "0123456789"),
            ("7", "345"),
            ("7", "345", "0123456789"),
            ("7", "345", "2"),
            ("7", "345", "2", "0123456789"),
        ]
        assert expand("(?:1[02]){2}|3") == [("1", "02", "1", "02"), ("3",)]
        with pytest.raises(ValueError, match="holds more than digits"):
            expand("12*")

    def test_slugs(self) -> None:
        from dispatcher.policy.build_carriers import slug

        assert slug("Service des Postes et Télécommunications") == (
            "service-des-postes-et-telecommunications"
        )
        assert slug(" T+ (Digi)") == "t-digi"


def _valid_numbers(rng: random.Random) -> Iterator[tuple[str, PhoneNumber]]:
    """Valid numbers of every country, of every type and under many carriers' prefixes."""
    import phonenumbers as source

    for number in chain(_near_examples(rng), _under_carrier_prefixes(rng)):
        parsed = source.parse(number)
        if source.is_valid_number(parsed):
            yield number, parsed


def _near_examples(rng: random.Random) -> Iterator[str]:
    """libphonenumber's example of every country and type, and seven changes of each."""
    import phonenumbers as source

    for region, kind in product(sorted(source.SUPPORTED_REGIONS), source.PhoneNumberType.values()):
        example = source.example_number_for_type(region, kind)
        if example is not None:
            number = source.format_number(example, source.PhoneNumberFormat.E164)
            calling_code = len(f"+{example.country_code}")
            yield number
            for _ in range(7):
                yield _completed(number[: rng.randrange(calling_code, len(number))], number, rng)


def _under_carrier_prefixes(rng: random.Random) -> Iterator[str]:
    import phonenumbers as source
    from phonenumbers.carrierdata import CARRIER_DATA

    examples = {
        str(code): source.example_number_for_type(regions[0], source.PhoneNumberType.MOBILE)
        for code, regions in source.COUNTRY_CODE_TO_REGION_CODE.items()
    }
    for prefix in rng.sample(sorted(CARRIER_DATA), 8000):
        example = examples[next(prefix[:n] for n in (1, 2, 3) if prefix[:n] in examples)]
        if example is not None:
            number = source.format_number(example, source.PhoneNumberFormat.E164)
            yield _completed(f"+{prefix}", number, rng)


def _completed(start: str, example: str, rng: random.Random) -> str:
    return start + "".join(rng.choice("0123456789") for _ in range(len(example) - len(start)))
