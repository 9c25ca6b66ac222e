"""Records of a version that is not known here: their entry waits for a worker that knows them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dispatcher.messages import Record, Status, UnknownFormat, decode_record, encode_record
from tests.campaign import Campaign, numbers, until, webhook
from tests.engine.test_divided_entries import put_back

VALUE = encode_record(Status.SENT, 1, Record(1, "hook/sms/de", "+4915"))


@pytest.mark.parametrize("value", [b"", b"?" + VALUE[1:], VALUE[:5], VALUE[:3] + b"\x01"])
def test_a_record_that_cannot_be_read_is_named(value: bytes) -> None:
    with pytest.raises(UnknownFormat, match="a record of an unknown format"):
        decode_record(value)


async def test_an_entry_with_such_a_record_is_put_aside(
    campaign: Callable[[str], Campaign], simulator_url: str
) -> None:
    run = campaign(webhook(simulator_url, on_unknown="resend"))
    batch = await run.submit(numbers(2))
    await put_back(run, 0, 1)
    status = run.store.keys.status(batch, 0)
    await run.store.client.hset(status, "0", b"?" + VALUE[1:])
    items = run.store.keys.name("items")

    async def aside() -> bool:
        return bool(await run.store.client.hlen(items))

    async with run.work() as working:
        await until(aside)
        assert not working.done()
    assert run.arrived() == {}
    await run.store.client.hdel(status, "0")
    await run.make_due()
    async with run.work():
        assert await run.finished(batch) == {"sent": 2}
