"""A store that has forgotten its last moments, as after a failover to a replica that was behind:
nothing is lost, and nothing waits for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.messages import Status
from dispatcher.simulator import Simulator
from dispatcher.simulator.faults import Refuse
from tests.campaign import numbers, twilio
from tests.faults.server import Server, troubled

MESSAGES = 600


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Its memory can be set back to what was saved."""
    (tmp_path / "data").mkdir()
    with Server(tmp_path / "data", None, "--appendonly", "no").running() as server:
        yield server


async def test_what_was_written_is_in_doubt(
    server: Server, simulator: Simulator, simulator_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A campaign with retries in the middle of which the store goes back by 150 messages."""
    quick = '[worker]\nlease = "1s"\n[retry]\nbase = "50ms"\nmax = "100ms"\n'
    toml = twilio(simulator_url, rate="600/s") + quick
    simulator.set_faults([Refuse(status=503, every=9)])
    async with troubled(server, simulator, toml, caplog) as rig:
        run = rig.run
        batch = await run.submit(numbers(MESSAGES), class_="bulk")
        async with server.client() as client, run.work():
            await rig.accepted(150)
            await client.save()
            await rig.accepted(300)
            await client.execute_command("DEBUG", "RELOAD", "NOSAVE")
            counts = await run.finished(batch)
        assert counts["sent"] + counts["unknown"] == MESSAGES
        records = await run.records(batch)
        missing = run.ids(batch, MESSAGES) - {*run.arrived()}
        states = {records[int(name.rpartition("-")[2])][0] for name in missing}
        assert states <= {Status.UNKNOWN}
        assert await run.store.inspector.unfinished() == 0
        assert await run.is_empty()
        assert len(rig.lines("the store has forgotten what worker")) == 1
