"""Records of a version that is not known here: their entry waits for a worker that knows them."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest

from dispatcher.messages import (
    Record,
    Status,
    UnknownFormat,
    decode_record,
    decode_sheet,
    encode_record,
)
from tests.campaign import Campaign, numbers, until, webhook
from tests.engine.test_divided_entries import put_back

VALUE = encode_record(Status.SENT, 1, Record(1, "hook/sms/de", "+4915"))


@pytest.mark.parametrize("value", [b"", b"?" + VALUE[1:], VALUE[:5], VALUE[:3] + b"\x01"])
def test_a_record_that_cannot_be_read_is_named(value: bytes) -> None:
    with pytest.raises(UnknownFormat, match="a record of an unknown format"):
        decode_record(value)


@pytest.mark.parametrize("value", [b"", b"\x93\x01", msgpack.packb([1, "lane", [[0, 7]]])])
def test_a_sheet_that_cannot_be_read_is_named(value: bytes) -> None:
    with pytest.raises(UnknownFormat, match="a sheet of an unknown format"):
        list(decode_sheet(value))


@pytest.mark.parametrize(
    ("field", "value"), [("0", b"?" + VALUE[1:]), ("0-1", msgpack.packb([1, "lane", "new"]))]
)
async def test_an_entry_with_such_a_record_is_put_aside(
    campaign: Callable[[str], Campaign], simulator_url: str, field: str, value: bytes
) -> None:
    run = campaign(webhook(simulator_url, on_unknown="resend"))
    batch = await run.submit(numbers(2))
    await put_back(run, 0, 1)
    status = run.store.keys.status(batch, 0)
    await run.store.client.hset(status, field, value)
    items = run.store.keys.name("items")

    async def aside() -> bool:
        return bool(await run.store.client.hlen(items))

    async with run.work() as working:
        await until(aside)
        assert not working.done()
    assert run.arrived() == {}
    await run.store.client.hdel(status, field)
    await run.make_due()
    async with run.work():
        assert await run.finished(batch) == {"sent": 2}
