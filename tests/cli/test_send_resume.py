"""`send` that ends in mid-file, and `--resume`: every record exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.messages import new_ulid
from dispatcher.settings import StoreConfig
from dispatcher.store.opening import Store, open_store
from tests.cli.command import HI, SEND, Commands, batch_of, csv_of, killed, number, stored
from tests.cli.inside import Inside

ROWS = 9000
FED = 5500
"""Two parts of 2000 and some records of the third."""


@pytest.fixture
def whole(commands: Commands) -> bytes:
    """A file of ROWS records; the 3rd, the 7th, ... are broken."""
    text = csv_of(f"{number(i) if i % 4 != 2 else 'x'},Ann {i}" for i in range(ROWS))
    return commands.write("rows.csv", text).read_bytes()


def head(whole: bytes, records: int) -> bytes:
    return b"".join(whole.splitlines(keepends=True)[: records + 1])


def fed(commands: Commands, content: bytes) -> tuple[subprocess.Popen[bytes], str]:
    """A `send` that has got this much on stdin and waits for more; and its batch."""
    process = commands.start(
        "send", "-", *SEND, *HI, "--rejects", os.devnull, stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(content)
    process.stdin.flush()
    return process, batch_of(process)


async def until_accepted(store: Store, batch: str, messages: int) -> None:
    async with asyncio.timeout(30):
        while (view := await store.inspector.batch(batch)) is None or view.total < messages:
            await asyncio.sleep(0.01)


async def resume(inside: Inside, batch: str) -> dict[str, int]:
    """Resume with the whole file; the counts it reports."""
    result = await inside.call(
        "send", "rows.csv", *SEND, *HI, "--resume", batch, "--json", "--rejects", os.devnull
    )
    assert result.code == 1  # there are rejects
    return {name: result.found[name] for name in ("accepted", "resumed", "rejected")}


async def check_exactly_once(store: Store, batch: str) -> None:
    messages = [(one.row.index, one.row.to) for one in await stored(store, batch)]
    assert messages == [(i, number(i)) for i in range(ROWS) if i % 4 != 2]


ALL = {"accepted": ROWS * 3 // 4, "rejected": ROWS // 4}


async def test_killed_in_mid_file(
    commands: Commands, inside: Inside, store: Store, whole: bytes
) -> None:
    send, batch = fed(commands, head(whole, FED))
    await until_accepted(store, batch, 3000)
    killed(send)
    assert len(await stored(store, batch)) == 3000
    assert await resume(inside, batch) == ALL | {"resumed": 3000}
    await check_exactly_once(store, batch)
    assert await resume(inside, batch) == ALL | {"resumed": ALL["accepted"]}
    await check_exactly_once(store, batch)


async def test_killed_with_its_store(
    tmp_path: Path,
    config_file: Callable[[str], Path],
    commands: Commands,
    inside: Inside,
    whole: bytes,
) -> None:
    """The killed command was the only user of its store: that stops, and starts again."""
    path = config_file('[providers.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n')
    own = StoreConfig(data_dir=str(tmp_path / "own"))
    path.write_text(path.read_text().partition("\n[providers")[2].join(
        [f'[store]\ndata_dir = "{own.data_dir}"\n[providers', ""]
    ))  # fmt: skip
    send, batch = fed(commands, head(whole, FED))
    async with open_store(own) as store:
        await until_accepted(store, batch, 3000)
    killed(send)
    assert await resume(inside, batch) == ALL | {"resumed": 3000}
    async with open_store(own) as store:
        await check_exactly_once(store, batch)


async def test_a_batch_can_be_resumed_from_the_moment_it_is_named(
    commands: Commands, inside: Inside, store: Store, whole: bytes
) -> None:
    send, batch = fed(commands, head(whole, 0))
    killed(send)
    assert await resume(inside, batch) == ALL | {"resumed": 0}
    await check_exactly_once(store, batch)


async def test_a_part_is_accepted_before_the_next_record_is_read(
    commands: Commands, store: Store, whole: bytes
) -> None:
    send, batch = fed(commands, head(whole, 2000))
    await until_accepted(store, batch, 1500)
    out, _ = await asyncio.to_thread(send.communicate, b"".join(whole.splitlines(True)[2001:]))
    assert out.decode() == f"{ALL['accepted']} accepted, {ALL['rejected']} rejected\n"
    await check_exactly_once(store, batch)


async def test_ctrl_c_in_mid_file(
    commands: Commands, inside: Inside, store: Store, whole: bytes
) -> None:
    send, batch = fed(commands, head(whole, FED))
    await until_accepted(store, batch, 3000)
    send.send_signal(signal.SIGINT)
    result = await commands.ended(send)
    assert (result.code, result.err[0]) == (130, f"interrupted; continue with --resume {batch}")
    assert await resume(inside, batch) == ALL | {"resumed": 3000}
    await check_exactly_once(store, batch)


async def test_what_does_not_fit_the_batch_is_refused(
    commands: Commands, inside: Inside, store: Store, whole: bytes
) -> None:
    unknown = new_ulid(1)
    result = await inside.call("send", "rows.csv", *SEND, *HI, "--resume", unknown)
    line = f"dispatcher: batch {unknown} is not in this store: nothing of it was accepted"
    assert (result.code, result.err) == (1, [line])
    send, batch = fed(commands, head(whole, FED))
    await until_accepted(store, batch, 3000)
    killed(send)
    for other in (["--text", "Hello {name}"], ["--at", "2126-11-27T09:00:00Z"]):
        result = await inside.call("send", "rows.csv", *SEND, *HI, "--resume", batch, *other)
        line = "dispatcher: --resume needs the options of the first call (text, from, at, …)"
        assert (result.code, result.err) == (2, [line]), other
    commands.write("rows.csv", whole.replace(b"Ann 2401\n", b"Bob 2401\n"))
    result = await inside.call(
        "send", "rows.csv", *SEND, *HI, "--resume", batch, "--rejects", os.devnull
    )
    line = "dispatcher: rows.csv has changed: record 2000 and the next 1999 are not those accepted "
    assert (result.code, result.err) == (2, [line + "before"])
    assert len(await stored(store, batch)) == 3000
