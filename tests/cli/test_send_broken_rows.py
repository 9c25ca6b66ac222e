"""Broken records in a big file: each is named with its line and reason, all others get through."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from dispatcher.simulator import Simulator
from dispatcher.store.opening import Store
from tests.cli.command import HI, SEND, Commands, number, stored
from tests.cli.inside import Inside

CSV_FAULTS: list[tuple[bytes, str]] = [
    (b"", "empty_record: the line is empty"),
    (b"+4915ABC,Ann", "invalid_recipient: to: '+4915ABC' contains 'A'; "),
    (b"+4915000000000000,Ann", "invalid_recipient: to: '+4915000000000000' is too long (16 "),
    (b"+4915112345678,J\xf6rg", "invalid_utf8: the line is not UTF-8"),
    (b"+4915112345678", "wrong_columns: 1 columns, the header has 2"),
    (b"+4915112345678,Ann,Smith", "wrong_columns: 3 columns, the header has 2"),
]
JSON_FAULTS: list[tuple[bytes, str]] = [
    (b"", "empty_record: the line is empty"),
    (b'{"to": "+4915ABC", "name": "Ann"}', "invalid_recipient: to: '+4915ABC' contains 'A'; "),
    (b'{"to": "+4915000000000000", "name": "Ann"}', "invalid_recipient: to: '+4915000000000000' "),
    (b'{"to": "+4915112345678", "name": "J\xf6rg"}', "invalid_utf8: the line is not UTF-8"),
    (b'{"to": "+4915112345678", "name": null}', 'missing_parameter: parameter "name" has no value'),
    (b'{"to": "+4915112345678"}', 'missing_parameter: parameter "name" has no value'),
    (b'{"to": "+4915112345678", "name": ["Ann"]}', "invalid_parameter: name is not a text or a "),
    (b'["+4915112345678", "Ann"]', "invalid_json: the line is not a JSON object"),
    (b'{"to": "+4915112345678", "name', "invalid_json: "),
    (b'{"name": "Ann"}', 'invalid_recipient: "to" is missing or not a text'),
]


def csv_row(index: int) -> bytes:
    return f"{number(index)},Ann {index}".encode()


def json_row(index: int) -> bytes:
    return json.dumps({"to": number(index), "name": f"Ann {index}"}).encode()


def mixed(
    rows: int, every: int, row: Callable[[int], bytes], faults: list[tuple[bytes, str]]
) -> tuple[list[bytes], dict[int, str]]:
    """Lines of which one in `every` is broken, and the reasons of those by index."""
    lines, broken = [], {}
    for index in range(rows):
        if index % every == every // 2:
            line, broken[index] = faults[index // every % len(faults)]
            lines.append(line)
        else:
            lines.append(row(index))
    return lines, broken


async def check_accepted(store: Store, batch: str, rows: int, broken: dict[int, str]) -> None:
    accepted = [(one.row.index, one.row.to, one.row.values) for one in await stored(store, batch)]
    assert accepted == [
        (index, number(index), (f"Ann {index}",)) for index in range(rows) if index not in broken
    ]


async def test_100_000_rows_of_csv(commands: Commands, store: Store) -> None:
    lines, broken = mixed(100_000, 1000, csv_row, CSV_FAULTS)
    commands.write("big.csv", b"\n".join([b"to,name", *lines, b""]))
    result = commands.send("big.csv", *HI)
    assert (result.code, result.out) == (1, "99900 accepted, 100 rejected\n")
    assert len(result.err) == len(broken) == 100
    for said, (index, reason) in zip(result.err, broken.items(), strict=True):
        assert said.startswith(f"line {index + 2}: {reason}")
    await check_accepted(store, result.batch, 100_000, broken)


async def test_json_lines_and_a_file_of_rejects(
    commands: Commands, inside: Inside, store: Store
) -> None:
    lines, broken = mixed(12_000, 100, json_row, JSON_FAULTS)
    commands.write("big.jsonl", b"\n".join([*lines, b""]))
    result = await inside.call("send", "big.jsonl", *SEND, *HI, "--rejects", "bad.csv")
    assert (result.code, result.out, result.err) == (1, "11880 accepted, 120 rejected\n", [])
    header, *said = (commands.directory / "bad.csv").read_text().splitlines()
    assert header == "line,record,code,detail"
    for line, (index, reason) in zip(said, broken.items(), strict=True):
        code = reason.partition(":")[0]
        assert line.startswith(f"{index + 1},{index},{code},")
    await check_accepted(store, result.batch, 12_000, broken)


def test_more_rejects_than_are_listed(commands: Commands, inside: Inside) -> None:
    commands.write("bad.csv", "to,name\n" + "nobody,x\n" * 1100)
    result = inside.send("bad.csv", *HI, "--dry-run")
    assert (result.code, result.out) == (1, "0 would be accepted, 1100 rejected\n")
    assert result.err[999].startswith("line 1001: invalid_recipient: ")
    assert result.err[1000:] == ["more records refused; --rejects FILE lists all"]


def test_a_file_cut_in_mid_row(commands: Commands, inside: Inside) -> None:
    commands.write("cut.csv", 'to,name\n+4915112345678,Ann\n+4915112345679,"Be')
    result = inside.send("cut.csv", *HI, "--dry-run")
    assert (result.code, result.err) == (
        1,
        ["line 3: invalid_csv: not CSV: unexpected end of data"],
    )
    commands.write("cut.jsonl", '{"to":"+4915112345678","name":"Ann"}\n{"to":"+49151')
    result = inside.send("cut.jsonl", *HI, "--dry-run")
    assert result.out.startswith("1 would be accepted, 1 rejected\n")
    assert result.err == ["line 2: invalid_json: Input data was truncated"]


async def test_from_the_file_to_the_provider(
    commands: Commands, config_file: Callable[[str], Path], simulator: Simulator
) -> None:
    url = await simulator.start()
    config_file(f'[providers.hook]\nkind = "webhook"\nurl = "{url}/webhook/demo"\n')
    lines, broken = mixed(3000, 100, csv_row, CSV_FAULTS)
    commands.write("rows.csv", b"\n".join([b"to,name", *lines, b""]))
    worker = commands.start("worker")
    send = commands.start("send", "rows.csv", *SEND, *HI, "--wait", "--json")
    result = await commands.ended(send)
    worker.terminate()
    assert (await commands.ended(worker)).code == 0
    assert (result.code, len(result.err)) == (1, 30)
    assert result.found["accepted"] == result.found["counts"]["sent"] == 2970
    arrived = sorted((one.message, one.to, one.event) for one in simulator.journal.entries())
    assert arrived == sorted(
        (f"{result.batch}-{index}", number(index), "accepted")
        for index in range(3000)
        if index not in broken
    )
