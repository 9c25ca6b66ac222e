"""The memory of the store is full: scripts that add are refused before they change anything, those
that drain, settle or stop something run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks import faults
from dispatcher.errors import StoreFull
from dispatcher.messages import Status
from dispatcher.settings import StoreConfig
from dispatcher.store.letters import Letters
from dispatcher.store.moving import Moving, NewPlace, Target
from dispatcher.store.opening import open_store
from dispatcher.store.queue import NewEntry
from dispatcher.store.resolving import Resolver, Said
from dispatcher.store.submissions import Fixed, Submissions
from tests.faults.server import Server
from tests.store.cell import LANE, OWN, Cell, action, put_back
from tests.store.test_letters import DAY, die, replay

SCRIPTS = Path(str(files("dispatcher.store"))) / "lua"
ADD = {"enqueue", "intend", "replay", "submit", "writable"}
READ = {"clock", "scheduled", "survey_lanes", "survey_limits"}
PARTS = {"lib", "actions", "suspensions", "pace", "shares", "recount", "taking", "forward"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("full")).running() as server:
        yield server


@pytest.fixture
async def cell(server: Server) -> AsyncIterator[Cell]:
    async with open_store(StoreConfig(url=server.url, prefix=f"t{uuid4().hex[:12]}")) as store:
        cell = Cell(store)
        await cell.limit(OWN)
        await cell.worker("w1", "w2")
        yield cell


async def dump(cell: Cell) -> dict[bytes, bytes]:
    """All that is kept, but for the clock and what only counts changes."""
    names = [name async for name in cell.client.scan_iter(f"{cell.keys.prefix}:*", 1000)]
    return {name: await cell.client.dump(name) for name in names if b":clock:" not in name}


def test_every_script_is_of_one_kind() -> None:
    def allowed(name: str) -> bool:
        return "allow-oom" in (SCRIPTS / f"{name}.lua").read_text().partition("\n")[0]

    scripts = {path.stem for path in SCRIPTS.glob("*.lua")} - PARTS
    assert {name for name in scripts if not allowed(name)} == (ADD | READ) - {"clock"}


async def send_again(cell: Cell) -> None:
    await replay(cell, Letters(cell.client, cell.keys))


async def submit(cell: Cell) -> None:
    call = Fixed(cell.batch, 1, b"answer")
    await Submissions(cell.client, cell.keys).fix("acme", "key", "check", call)


async def enqueue(cell: Cell) -> None:
    cell.queue._memory._look_at = float("inf")  # to see the script refuse it
    await cell.enqueue(1, first=900)


@pytest.mark.parametrize("add", [enqueue, send_again, submit])
async def test_what_adds_is_refused_whole(
    cell: Cell, add: Callable[[Cell], Awaitable[None]]
) -> None:
    await die(cell, 20)
    before = await dump(cell)
    async with faults.fill_memory(cell.client):
        with pytest.raises(StoreFull, match="store has no room left"):
            await add(cell)
        assert await dump(cell) == before
    await add(cell)
    assert await dump(cell) != before


async def test_a_part_that_was_accepted_is_answered(cell: Cell) -> None:
    await cell.enqueue(3)
    cell.queue._memory._look_at = float("inf")
    async with faults.fill_memory(cell.client):
        assert (await cell.enqueue(3, first=0)).repeated


async def test_messages_are_sent_retried_and_given_up(cell: Cell) -> None:
    await cell.enqueue(9, size=3)
    async with faults.fill_memory(cell.client):
        await cell.queue.heartbeat("w1")
        first, second, third = await cell.claim_entries("w1")
        assert await cell.finish("w1", [first]) == [True]
        assert await cell.settle("w1", put_back(second, wait_us=1)) == [True]
        assert await cell.queue.leave("w1") == third.count
        assert await cell.client.ping()
        await cell.queue.write_limits([])
    places = list((await cell.check()).values())
    assert (places.count("sent"), len(places)) == (3, 9)


async def test_operators_stop_and_clear_up(cell: Cell) -> None:
    letters = Letters(cell.client, cell.keys)
    await die(cell, 2)
    await die(cell, 1, Status.UNKNOWN)
    await cell.enqueue(3)
    async with faults.fill_memory(cell.client):
        assert (await cell.suspend("p", 60)).until_us
        assert await cell.resume("p")
        assert await cell.operations.set_limit(OWN, 10.0, 60)
        said = [Said(f"{cell.batch}-2", Status.SENT)]
        (told,) = await Resolver(cell.client, cell.keys).resolve(said, DAY)
        assert told.status is Status.SENT
        found = await letters.find([f"{cell.batch}-0", f"{cell.batch}-1"])
        assert await letters.drop(found, action("dead drop", "all")) == 2
        assert await cell.queue.sweep(0) == 0
        assert await move_all(cell, "p/sms/b") == 3
        assert await Submissions(cell.client, cell.keys).cancel(cell.batch, ["p"])
    assert await letters.count() == 0


async def move_all(cell: Cell, lane: str) -> int:
    moving, moved = Moving(cell.client, cell.keys), 0
    async for page in moving.waiting(LANE):
        entries = []
        for one in page:
            new = NewEntry(lane, "normal", one.messages, 1, 0, 0, one.body)
            entries.append((one, [NewPlace(new, None, None)]))
        targets = [Target(lane, (OWN,), "default", 1.0)]
        moved += (await moving.move(LANE, entries, targets, action("move", LANE))).messages
    return moved
