"""What files of records may look like."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from dispatcher.cli.records import Item, open_records
from dispatcher.engine.ingest import Recipient, Rejected

ANN = "+4915112345678"


def read(content: str | bytes, names: Sequence[str] = ("name",), path: str = "-") -> list[Item]:
    raw = content.encode() if isinstance(content, str) else content
    return list(open_records(io.BytesIO(raw), path).read(names))  # type: ignore[arg-type]


def good(content: str | bytes, names: Sequence[str] = ("name",)) -> list[tuple[str | None, ...]]:
    """The values of all records, none of which may be refused."""
    found = []
    for at, item in enumerate(read(content, names)):
        assert isinstance(item.record, Recipient), item
        assert item.record.index == at
        found.append((item.record.to, *item.record.values))
    return found


@pytest.mark.parametrize(
    "content",
    [
        f"to,name\n{ANN},Ann\n",
        f"to,name\n{ANN},Ann",
        f"to,name\r\n{ANN},Ann\r\n",
        f"to,name\r{ANN},Ann\r",
        f"\N{BYTE ORDER MARK}to,name\n{ANN},Ann\n",
        f'"to","name"\n"{ANN}","Ann"\n',
        f" to , name \n{ANN},Ann\n",
        f"name,to\nAnn,{ANN}\n",
        f"x,to,y,name\n1,{ANN},2,Ann\n",
        f"to,name\n{ANN},Ann\n\n\r\n\n",
        f'{{"to":"{ANN}","name":"Ann"}}\n',
        f'{{"to":"{ANN}","name":"Ann"}}',
        f'\N{BYTE ORDER MARK}{{"to":"{ANN}","name":"Ann","x":[1]}}\r\n\r\n\n',
        f'  {{"name":"Ann","to":"{ANN}"}}  \n',
    ],
)
def test_shapes_of_one_record(content: str) -> None:
    assert good(content) == [(ANN, "Ann")]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('"Ann, Bob"', "Ann, Bob"),
        ('"say ""hi"""', 'say "hi"'),
        ('"two\nlines"', "two\nlines"),
        ('"two\r\nlines"', "two\r\nlines"),
        ("Jörg 🎉", "Jörg 🎉"),
        ('5" pipe', '5" pipe'),
        ("a;b", "a;b"),
        ("", ""),
        (" spaces ", " spaces "),
        ("nul\0", "nul\0"),
    ],
)
def test_csv_values(cell: str, value: str) -> None:
    content = f"to,name\n{ANN},{cell}\n{ANN},next\n"
    assert good(content) == [(ANN, value), (ANN, "next")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("7", "7"), ("-1.5", "-1.5"), ("12345678901234567890123", "12345678901234567890123"),
        ("true", "true"), ('"\\u00f6 \\ud83c\\udf89"', "ö 🎉"), ('""', ""), ('"a\\nb"', "a\nb"),
        ("null", None),
    ],
)  # fmt: skip
def test_json_values(value: str, text: str | None) -> None:
    assert good(f'{{"to":"{ANN}","name":{value}}}\n') == [(ANN, text)]


def test_reserved_columns_are_no_parameters() -> None:
    content = f"to,ref,carrier,name\n{ANN},order-7,blue,Ann\n{ANN},,,Bob\n"
    records = open_records(io.BytesIO(content.encode()), "-")  # type: ignore[arg-type]
    assert records.columns == ["name"]
    found = [item.record for item in records.read(("name",))]
    assert found == [
        Recipient(0, ANN, ("Ann",), "order-7", "blue"),
        Recipient(1, ANN, ("Bob",), None, None),
    ]
    assert [item.record for item in read(f'{{"to":"{ANN}","ref":"r","carrier":"c"}}', ())] == [
        Recipient(0, ANN, (), "r", "c")
    ]


def test_the_ending_of_the_name_decides_before_the_first_character() -> None:
    [item] = read(f"to,name\n{ANN},Ann\n", path="rows.jsonl")[:1]
    assert isinstance(item.record, Rejected)
    assert item.record.code == "invalid_json"


def rejected(items: list[Item]) -> list[tuple[int, int, str]]:
    return [
        (item.line, item.record.index, item.record.code)
        for item in items
        if isinstance(item.record, Rejected)
    ]


def test_blank_lines_count_unless_they_are_the_last() -> None:
    content = f'to,name\n{ANN},a\n\n\n{ANN},"b\n\nc"\n\n{ANN},d\n\n\n'
    items = read(content)
    assert rejected(items) == [
        (3, 1, "empty_record"),
        (4, 2, "empty_record"),
        (8, 4, "empty_record"),
    ]
    assert [item.line for item in items] == [2, 3, 4, 5, 8, 9]
    assert [item.record.index for item in items] == [0, 1, 2, 3, 4, 5]
    content = f'{{"to":"{ANN}"}}\n\n \n{{"to":"{ANN}"}}\n\n'
    assert rejected(read(content, ())) == [(2, 1, "empty_record"), (3, 2, "empty_record")]


def test_a_line_is_the_one_on_which_the_record_begins() -> None:
    content = f'to,name\n{ANN},"a\nb"\nx,y,z\n{ANN},"c" d\n{ANN},"e\nf\n'
    items = read(content)
    assert rejected(items) == [
        (4, 1, "wrong_columns"), (5, 2, "invalid_csv"), (6, 3, "invalid_csv"),
    ]  # fmt: skip
    last = items[-1].record
    assert isinstance(last, Rejected)
    assert last.detail == "not CSV: unexpected end of data (lines 6 to 7)"


def test_a_quote_that_is_never_closed_does_not_swallow_the_file() -> None:
    rows = "".join(f"{ANN},Ann {i}\n" for i in range(100_000))
    items = read(f'to,name\n{ANN},"Ann\n{rows}')
    assert rejected(items) == [(2, 0, "invalid_csv")]
    assert len(items) > 40_000
    assert items[-1].line == 100_002


@pytest.mark.parametrize(
    "line",
    [
        '{"to":"+49","name":"\\ud800"}', '{"to":"+49","name":1e999}', '{"to":"+49"} x', "[", "7",
        '{"to":7}', '{"to":null}', "{}", '{"to":"+49","name":{}}', '{"to":"+49","ref":7}',
        '{"to":"+49","name":' + "7" * 5000 + "}", '{"to":' + "[" * 2000,
    ],
)  # fmt: skip
def test_a_bad_json_line_is_refused_and_no_more(line: str) -> None:
    items = read(f'{{"to":"{ANN}","name":"a"}}\n{line}\n{{"to":"{ANN}","name":"b"}}\n')
    assert [place for place, _, _ in rejected(items)] == [2]
    assert [item.record.index for item in items] == [0, 1, 2]
