"""A part that reached some cells only is completed whatever has changed since: what is missing is
added, and nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dispatcher import failpoints
from dispatcher.engine.ingest import OpenBatch, Part
from dispatcher.engine.janitor import Janitor
from dispatcher.errors import StoreFull, StoreUnavailable
from dispatcher.store.forgetting import Forgetting
from dispatcher.store.queue import Accepted
from dispatcher.store.spreading import SpreadQueue
from dispatcher.store.submissions import Submissions
from dispatcher.store.tidying import Tidying
from tests.campaign import Campaign, numbers, twilio, until
from tests.cells.conftest import WEST, Start, assert_nothing_left, halves, in_cell, two_providers
from tests.cells.test_batches_over_cells import fails_in, part_of

ROOT = Path(__file__).parents[2]


async def reaches_eu_only(
    run: Campaign, opened: OpenBatch, part: Part, monkeypatch: pytest.MonkeyPatch
) -> int:
    """A call that ends between two cells; the messages that were queued."""
    with monkeypatch.context() as patched:
        fails_in(patched, "main", StoreUnavailable("gone"))
        with pytest.raises(StoreUnavailable):
            await opened.enqueue(run.store.queue, part)
    view = await run.store.cells["eu"].inspector.batch(opened.envelope.batch)
    assert view is not None
    return view.total


@pytest.mark.parametrize("all_to", ["twilio", "west"])
async def test_routes_that_have_changed_since(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch, all_to: str
) -> None:
    run = await over_cells(halves(simulator_url))
    opened = run.open()
    batch = opened.envelope.batch
    there = await reaches_eu_only(run, opened, part_of(opened, 100), monkeypatch)
    assert 0 < there < 100

    route = f'[[routes]]\nproviders = ["{all_to}"]\n'
    run = await over_cells(two_providers(simulator_url) + route)
    rest = run.open()
    again = run.ingest.open(opened.submission, (), batch, rest.envelope.accepted_us)
    assert await again.enqueue(run.store.queue, part_of(again, 100)) == Accepted(100)
    assert (await run.view(batch)).total == 100
    assert await again.enqueue(run.store.queue, part_of(again, 100)) == Accepted(
        0, True, part_of(again, 100).check
    )
    async with run.work():
        assert await run.finished(batch) == {"sent": 100}
    run.assert_each_arrived_once((batch, 100))
    await assert_nothing_left(run)


async def test_the_bounds_count_only_what_is_missing(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await over_cells(halves(simulator_url))
    run = Campaign(
        replace(run.config, store=replace(run.config.store, max_queued=100)),
        run.store,
        run.simulator,
    )
    opened = run.open()
    part = part_of(opened, 100)
    await reaches_eu_only(run, opened, part, monkeypatch)
    assert await opened.enqueue(run.store.queue, part) == Accepted(100)


async def test_one_that_is_beyond_the_bounds_by_now_is_in_doubt(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await over_cells(halves(simulator_url))
    run = Campaign(
        replace(run.config, store=replace(run.config.store, max_queued=150)),
        run.store,
        run.simulator,
    )
    opened, other = run.open(), run.open()
    part = part_of(opened, 100)
    await reaches_eu_only(run, opened, part, monkeypatch)
    await other.enqueue(run.store.queue, part_of(other, 90))
    with pytest.raises(StoreUnavailable, match="reached some cells only") as raised:
        await opened.enqueue(run.store.queue, part)
    assert not isinstance(raised.value, StoreFull)


async def test_whose_the_batch_is_is_known_before_any_message_of_it(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await over_cells(halves(simulator_url) + '[tenants.acme]\ntoken = "t"\n')
    opened = run.open(tenant="acme")
    await reaches_eu_only(run, opened, part_of(opened, 100), monkeypatch)
    owner = await Submissions(run.store.client, run.store.keys).owner(opened.envelope.batch)
    assert owner is not None
    assert owner.tenant == "acme"
    assert owner.options == opened.submission.fingerprint()


async def expires(run: Campaign, cell: str, batch: str) -> bool:
    name = run.store.cells[cell].keys.name("batch", batch)
    return int(await run.store.client.ttl(name)) > 0


async def sent_in(run: Campaign, cell: str, batch: str) -> bool:
    return not (await in_cell(run, cell, batch)).get("queued")


async def clean(run: Campaign, cell: str) -> None:
    """A round of the janitor of a cell."""
    own = run.store.cells[cell]
    janitor = Janitor(
        Tidying(own.client, own.keys), own.queue, "w", run.config.retention,
        forgetting=Forgetting(own.client, own.keys),
    )  # fmt: skip
    await janitor.round()
    await janitor.round()  # also what the first had in hand


async def away(*_: object) -> int:
    raise StoreUnavailable("store cannot be reached (cell eu)")


async def test_no_cell_forgets_a_batch_that_is_not_over_in_all(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await over_cells(halves(simulator_url))
    opened = run.open()
    batch, part = opened.envelope.batch, part_of(opened, 100)
    await opened.enqueue(run.store.queue, part)
    async with run.work(replace(run.config, providers={"twilio": run.config.providers["twilio"]})):
        await until(lambda: sent_in(run, "main", batch))
    for cell in ("eu", "main"):
        await clean(run, cell)
        assert not await expires(run, cell, batch)
    with monkeypatch.context() as patched:
        patched.setattr(Forgetting, "forget", away)
        await clean(run, "main")
    assert await opened.enqueue(run.store.queue, part) == Accepted(0, True, part.check)
    async with run.work():
        assert await run.finished(batch) == {"sent": 100}
    await clean(run, "eu")
    assert not await expires(run, "eu", batch)  # the main cell is the first to forget
    for cell in ("main", "eu"):
        await clean(run, cell)
        assert await expires(run, cell, batch)
    run.assert_each_arrived_once((batch, 100))


async def test_a_batch_that_moves_away_is_known_where_it_began(
    over_cells: Start, simulator_url: str
) -> None:
    route = '[[routes]]\nproviders = ["west", "twilio"]\n'
    run = await over_cells(two_providers(simulator_url) + route)
    run.simulator.change_account(f"twilio/{WEST}", suspended=True)
    batch = await run.submit(numbers(20))
    async with run.work():
        assert await run.finished(batch) == {"sent": 20}
    assert not any([await expires(run, cell, batch) for cell in ("main", "eu")])
    for cell in ("main", "eu"):
        await clean(run, cell)
        assert await expires(run, cell, batch)


def send(path: Path, *words: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dispatcher", "--config", str(path), "send", *words]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), failpoints.VARIABLE: failpoint}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


async def test_a_file_that_ended_between_two_cells_is_resumed_by_other_routes(
    over_cells: Start, simulator_url: str, tmp_path: Path
) -> None:
    run = await over_cells(halves(simulator_url))
    file, path = tmp_path / "people.csv", tmp_path / "dispatcher.toml"
    file.write_text("\n".join(["to", *numbers(4500)]))
    words = (str(file), "--channel", "sms", "--from", "SHOP", "--text", "Hi")
    died = send(path, *words, failpoint="between_cells:2")
    assert died.returncode == -signal.SIGKILL
    batch = died.stderr.split()[1]
    queued = (await run.view(batch)).total
    assert 0 < queued < 4500

    run = await over_cells(twilio(simulator_url))
    resumed = send(path, *words, "--resume", batch)
    assert resumed.returncode == 0, resumed.stderr
    assert (await run.view(batch)).total == 4500
    run = await over_cells(halves(simulator_url))
    async with run.work():
        assert await run.finished(batch) == {"sent": 4500}
    run.assert_each_arrived_once((batch, 4500))
    await assert_nothing_left(run)


async def test_the_cells_it_may_have_reached_must_answer(
    over_cells: Start, simulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await over_cells(halves(simulator_url))
    opened = run.open()
    batch = opened.envelope.batch
    there = await reaches_eu_only(run, opened, part_of(opened, 100), monkeypatch)
    run = await over_cells(twilio(simulator_url))
    again = run.ingest.open(opened.submission, (), batch, opened.envelope.accepted_us)
    look_at = SpreadQueue._look_at

    async def without_eu(self: SpreadQueue, cell: str, *given: Any) -> Any:
        if cell == "eu":
            return await away()
        return await look_at(self, cell, *given)

    monkeypatch.setattr(SpreadQueue, "_look_at", without_eu)
    with pytest.raises(StoreUnavailable, match="cell eu"):
        await again.enqueue(run.store.queue, part_of(again, 100))
    assert (await run.view(batch)).total == there
    fresh = run.open()
    assert await fresh.enqueue(run.store.queue, part_of(fresh, 10)) == Accepted(10)
    monkeypatch.undo()
    assert await again.enqueue(run.store.queue, part_of(again, 100)) == Accepted(100)
    assert (await run.view(batch)).total == 100


async def test_one_that_is_refused_leaves_nothing(over_cells: Start, simulator_url: str) -> None:
    run = await over_cells(halves(simulator_url))
    run = Campaign(
        replace(run.config, store=replace(run.config.store, max_queued=50)),
        run.store,
        run.simulator,
    )
    opened = run.open()
    with pytest.raises(StoreFull):
        await opened.enqueue(run.store.queue, part_of(opened, 100))
    assert await run.store.inspector.batches() == []
