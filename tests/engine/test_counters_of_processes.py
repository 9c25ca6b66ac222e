"""What two worker processes count together is what the provider saw and what was submitted."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dispatcher.messages import Content
from dispatcher.simulator import Refuse
from tests.campaign import Campaign, numbers, twilio, until
from tests.cli.command import Commands
from tests.ports import free_port

FAULTS = [
    Refuse(status=503, code="20503", every=7),
    Refuse(status=400, code="21610", every=11),
    Refuse(status=400, code="21211", every=13),
]
TENANTS = """
[retry]
base = "1ms"
max = "2ms"
[tenants.acme]
token = "a"
[tenants.bolt]
token = "b"
"""


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def scraped(port: int) -> list[Sample]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return [
        Sample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


async def scraped_all(ports: Iterable[int]) -> list[list[Sample]]:
    return await asyncio.gather(*(asyncio.to_thread(scraped, port) for port in ports))


def total(scrapes: Iterable[list[Sample]], name: str, **labels: str) -> float:
    return sum(
        sample.value
        for samples in scrapes
        for sample in samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.fixture
def commands(tmp_path: object) -> Iterator[Commands]:
    commands = Commands(tmp_path)  # type: ignore[arg-type]
    yield commands
    commands.end()


async def test_the_sum_over_processes_is_the_journal(
    commands: Commands, campaign: Callable[[str], Campaign], simulator_url: str
) -> None:
    run = campaign(twilio(simulator_url, rate="400/s") + TENANTS)
    run.simulator.set_faults(FAULTS)
    ports = [free_port(), free_port()]
    for port in ports:
        commands.start("worker", "--port", port)

    async def both_work() -> bool:
        return await run.store.inspector.workers() == 2

    await until(both_work)
    one = await run.submit(numbers(300), tenant="acme")
    two = await run.submit(numbers(200), tenant="bolt", content=Content(text="x" * 200))
    counts = {"acme": await run.finished(one), "bolt": await run.finished(two)}

    async def written() -> bool:  # a worker counts when it has the store's answer
        found = total(await scraped_all(ports), "dispatcher_messages_total", outcome="sent")
        return found == run.simulator.counts.accepted

    await until(written)
    scrapes = await scraped_all(ports)
    for tenant, outcomes in counts.items():
        counted = {
            outcome: total(
                scrapes, "dispatcher_tenant_messages_total", tenant=tenant, outcome=outcome
            )
            for outcome in outcomes
        }
        assert counted == outcomes
        segments = total(scrapes, "dispatcher_segments_total", tenant=tenant)
        assert segments == outcomes["sent"] * {"acme": 1, "bolt": 2}[tenant]
    journal = Counter(entry.event for entry in run.simulator.journal.entries())
    assert total(scrapes, "dispatcher_messages_total", outcome="sent") == journal["accepted"]
    for code in ("20503", "21610", "21211"):
        refused = run.simulator.counts.refused[code]
        assert total(scrapes, "dispatcher_send_errors_total", code=code) == refused > 0
    requests = total(scrapes, "dispatcher_send_seconds_count")
    assert requests == run.simulator.counts.requests
    each = [total([samples], "dispatcher_messages_total") for samples in scrapes]
    assert all(each), "one of the workers did nothing"

    async def one_shows() -> bool:
        return total(await scraped_all(ports), "dispatcher_workers") == 2

    await until(one_shows)
