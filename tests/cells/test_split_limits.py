"""A limit over providers of two cells: each has its share, and together they keep to it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner

from dispatcher.cli.main import root
from dispatcher.engine.runtime import write_limits
from dispatcher.store.inspector import Inspector
from tests.campaign import SID, numbers
from tests.cells.conftest import WEST, Start, halves
from tests.faults.test_six_carriers import KERNEL_SECONDS, Waits, worst_burst

CARRIER = '[carriers.de]\nrate = "{rate}"\nburst = 10\nshares = {{ eu = 0.7 }}\n'
NAME = "carrier:de"


async def command(*arguments: str) -> str:
    """What a command of an operator prints."""
    result = await asyncio.to_thread(CliRunner().invoke, root, arguments)
    assert result.exit_code == 0
    return result.stdout


async def rate_of(inspector: Inspector) -> tuple[float, int]:
    view = (await inspector.limits([NAME]))[NAME]
    return round(1e6 / view.interval_us, 3), view.burst


async def test_each_cell_has_its_share(over_cells: Start, simulator_url: str) -> None:
    rate = '["100/s", "2000/day"]'
    table = CARRIER.format(rate="100/s").replace('"100/s"', rate)
    tenant = '[tenants.acme]\ntoken = "t"\nrate = "10/s"\n'
    run = await over_cells(halves(simulator_url) + table + tenant)
    await write_limits(run.store, run.ingest.limits, run.config.providers)
    main, eu = (cell.inspector for cell in run.store.cells.values())
    assert [await rate_of(main), await rate_of(eu)] == [(30, 3), (70, 7)]
    assert await rate_of(run.store.inspector) == (100, 10)
    quotas = [(await cell.limits([NAME]))[NAME].quotas[0].most for cell in (main, eu)]
    assert quotas == [600, 1400]
    (quota,) = (await run.store.inspector.limits([NAME]))[NAME].quotas
    assert (quota.most, quota.used) == (2000, 0)
    assert await main.limit_names() == [NAME, "provider:twilio", "tenant:acme"]
    assert await eu.limit_names() == [NAME, "provider:west", "tenant:acme"]
    shares = {"main": 0.5, "eu": 0.5}
    assert run.ingest.limits.shares("tenant:acme") == shares


async def test_together_they_keep_to_it(over_cells: Start, simulator_url: str) -> None:
    table = CARRIER.format(rate="200/s").replace("burst = 10", "burst = 1")
    run = await over_cells(halves(simulator_url) + table)
    batch = await run.submit(numbers(200), class_="bulk")
    waits = Waits()
    watch = asyncio.create_task(waits.watch())
    async with run.work():
        assert await run.finished(batch) == {"sent": 200}
    watch.cancel()
    run.assert_each_arrived_once((batch, 200))
    entries = run.simulator.journal.entries()
    arrived: dict[str, list[float]] = {f"twilio/{account}": [] for account in (SID, WEST)}
    for entry in entries:
        arrived[entry.account].append(entry.arrived_ns / 1e9)
    slack = 0.05 + KERNEL_SECONDS + waits.longest
    everything = sorted(at for times in arrived.values() for at in times)
    assert worst_burst(sorted(arrived[f"twilio/{WEST}"]), 140) <= 1 + 140 * slack
    assert worst_burst(everything, 200) <= 2 + 200 * slack  # a burst of one in each cell


async def test_an_operator_sets_it_in_all_cells(
    over_cells: Start, simulator_url: str, tmp_path: Path
) -> None:
    run = await over_cells(halves(simulator_url) + CARRIER.format(rate="100/s"))
    path = str(tmp_path / "dispatcher.toml")
    changed = await command("--config", path, "limits", "set", NAME, "50/s")
    assert changed == f"{NAME}: 100/s -> 50/s, until reset\n"
    main, eu = (cell.inspector for cell in run.store.cells.values())
    assert [await rate_of(main), await rate_of(eu)] == [(15, 3), (35, 7)]
    explained = await command("--config", path, "explain", numbers(1)[0], "--json")
    choice = json.loads(explained)["choices"][0]
    met = {limit["name"]: limit["rate"] for limit in choice["limits"]}
    assert met == {f"provider:{choice['provider']}": None, NAME: met[NAME]}
    assert met[NAME] == {"twilio": 15, "west": 35}[choice["provider"]]
