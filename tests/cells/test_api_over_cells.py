"""HTTP calls for messages that go to two cells: repeated, looked up, appended to, cancelled."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp

from dispatcher.config import Config
from tests.campaign import numbers
from tests.cells.conftest import Start, halves
from tests.web.conftest import serving, submission

RECIPIENTS = numbers(60)


async def test_the_calls_of_a_batch(
    over_cells: Start, configure: Callable[[str], Config], simulator_url: str
) -> None:
    toml = halves(simulator_url)
    run = await over_cells(toml)
    async with serving(configure(toml)) as url, aiohttp.ClientSession(url) as http:
        body = submission(*RECIPIENTS, **{"from": "+4915550006"})
        key = {"Idempotency-Key": "one"}
        answers = [
            await (await http.post("/v1/messages", json=body, headers=key)).json() for _ in range(2)
        ]
        assert answers[0] == answers[1]
        batch = answers[0]["batch"]
        more = {**body, "batch": batch, "first": len(RECIPIENTS)}
        assert (await http.post("/v1/messages", json=more)).status == 202
        counts = await (await http.get(f"/v1/batches/{batch}")).json()
        assert (counts["total"], counts["queued"]) == (120, 120)
        async with run.work():
            assert await run.finished(batch) == {"sent": 120}
        found = [await (await http.get(f"/v1/messages/{batch}-{n}")).json() for n in range(60)]
        assert {story["provider"] for story in found} == {"twilio", "west"}
        assert {story["status"] for story in found} == {"sent"}
        other = (await (await http.post("/v1/messages", json=body)).json())["batch"]
        assert (await http.delete(f"/v1/batches/{other}")).status == 200
        async with run.work():
            assert await run.finished(other) == {"cancelled": 60}
    run.assert_each_arrived_once((batch, 120))
