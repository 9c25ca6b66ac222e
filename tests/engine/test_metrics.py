"""What a run counts is what the provider saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dispatcher.metrics import REGISTRY
from dispatcher.simulator import Refuse
from tests.campaign import Campaign, numbers, twilio

Start = Callable[[str], Campaign]


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_counters_equal_the_journal(campaign: Start, simulator_url: str) -> None:
    name = "counted"
    run = campaign(twilio(simulator_url, name) + '[retry]\nbase = "1ms"\nmax = "2ms"\n')
    run.simulator.set_faults(
        [
            Refuse(status=503, code="20503", every=7),
            Refuse(status=400, code="21610", every=11),
            Refuse(status=400, code="21211", every=13),
        ]
    )
    batch = await run.submit(numbers(400))
    async with run.work():
        counts = await run.finished(batch)
    journal = Counter(entry.event for entry in run.simulator.journal.entries())
    refused = run.simulator.counts.refused
    lane = {"provider": name, "carrier": "de", "channel": "sms"}
    outcomes = {
        outcome: value("dispatcher_messages_total", outcome=outcome, **lane)
        for outcome in ("sent", "dead", "suppressed", "retried")
    }
    assert outcomes == {
        "sent": journal["accepted"],
        "dead": counts["dead"],
        "suppressed": refused["21610"],
        "retried": (await run.view(batch)).events["retried"],
    }
    assert outcomes["sent"] + outcomes["dead"] + outcomes["suppressed"] == 400
    for code in ("20503", "21610", "21211"):
        error = {"provider": name, "carrier": "de", "code": code}
        assert value("dispatcher_send_errors_total", **error) == refused[code]
    requests = value("dispatcher_send_seconds_count", provider=name)
    assert requests == run.simulator.counts.requests
