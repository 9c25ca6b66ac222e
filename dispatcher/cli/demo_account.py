"""Collects at the end of the demo what the store, `send`, the API and the providers say."""

from __future__ import annotations

import asyncio
import http.client
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from urllib.parse import urlsplit

import msgspec

from dispatcher.cli import demo_check as check
from dispatcher.cli.demo_check import Arrival, Submitted
from dispatcher.cli.demo_codes import Codes
from dispatcher.cli.demo_setup import TENANT
from dispatcher.cli.demo_summary import CODES, Outcome, Result
from dispatcher.errors import DispatcherError
from dispatcher.messages import Status
from dispatcher.store.inspector import BatchView, Inspector, Known


class Said(msgspec.Struct, frozen=True):
    """What `send --json` prints, as far as it is needed here."""

    batch: str
    accepted: int
    rejected: int


async def collect(
    inspector: Inspector,
    simulators: Mapping[str, str],
    campaigns: Mapping[str, Sequence[str]],
    said: Mapping[str, Said | None],
    codes: Codes,
) -> Result:
    """The whole account of `campaigns` (recipients by channel) and `codes`. `simulators` has a
    URL per channel; `said` is None for what was not submitted in time. Raises DispatcherError when
    that is true of a whole campaign."""
    arrivals = {
        channel: await asyncio.to_thread(_journal, url) for channel, url in simulators.items()
    }
    taken = check.accepted_ids(chain.from_iterable(arrivals.values()))
    views = await _views(inspector)
    own = {channel: _campaign(views.values(), channel) for channel in campaigns}
    outcomes = [
        await _campaign_outcome(inspector, own[channel], recipients, said[channel], taken)
        for channel, recipients in campaigns.items()
    ]
    outcomes.append(await _codes_outcome(inspector, codes, views, taken))
    expected = [view.id for view in own.values()] + [one.batch for one in codes.receipts]
    faults = [f"{one.name}: {fault}" for one in outcomes for fault in one.verdict.faults]
    faults += check.strangers([one.submitted for one in outcomes], taken)
    faults += check.repeats(views, expected, codes.differing)
    return Result(outcomes, arrivals, codes.repeated, faults)


def _campaign(views: Iterable[BatchView], channel: str) -> BatchView:
    """The oldest batch of a channel that the codes' tenant has not posted."""
    found = [view for view in views if view.channel == channel and view.tenant != TENANT]
    if not found:
        raise DispatcherError("nothing was submitted in time; allow more with --seconds")
    return min(found, key=lambda view: view.id)


async def _campaign_outcome(
    inspector: Inspector,
    view: BatchView,
    recipients: Sequence[str],
    said: Said | None,
    taken: check.Taken,
) -> Outcome:
    records = await inspector.records(view.id, range(len(recipients)))
    accepted, rejected = (said.accepted, said.rejected) if said else (view.total, 0)
    submitted = Submitted(view.channel, recipients, accepted, view.counts, records)
    verdict = check.judge(submitted, taken)
    waits = _waits([view.created_us] * len(recipients), records)
    return Outcome(submitted, rejected, view.events, waits, verdict)


async def _codes_outcome(
    inspector: Inspector, codes: Codes, views: Mapping[str, BatchView], taken: check.Taken
) -> Outcome:
    """Each code is a batch of its own."""
    posted = [views[one.batch] for one in codes.receipts if one.batch in views]
    counters: Counter[str] = Counter()
    events: Counter[str] = Counter()
    records: dict[int, Known] = {}
    for index, view in enumerate(posted):
        counters.update(view.counts)
        events.update(view.events)
        found = await inspector.records(view.id, [0])
        if 0 in found:
            records[index] = found[0]
    recipients = codes.recipients[: len(codes.receipts)]
    accepted = sum(one.accepted for one in codes.receipts)
    rejected = sum(len(one.rejected) for one in codes.receipts)
    submitted = Submitted(CODES, recipients, accepted, counters, records)
    waits = _waits([view.created_us for view in posted], records)
    return Outcome(submitted, rejected, events, waits, check.judge(submitted, taken))


def _waits(accepted_us: Sequence[int], records: Mapping[int, Known]) -> list[float]:
    """Seconds from acceptance to sent, the shortest first."""
    return sorted(
        record.at_ms / 1e3 - accepted_us[index] / 1e6
        for index, (status, _, record) in records.items()
        if status is Status.SENT
    )


async def _views(inspector: Inspector) -> dict[str, BatchView]:
    """Every batch in the store."""
    found = {batch: await inspector.batch(batch) for batch in await inspector.batches()}
    return {batch: view for batch, view in found.items() if view is not None}


def _journal(url: str) -> list[Arrival]:
    """All that a simulator has seen, in order of arrival."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request("GET", "/_/journal")
        answer = connection.getresponse()
        decoder = msgspec.json.Decoder(Arrival)
        return sorted(map(decoder.decode, answer), key=lambda one: one.arrived_ns)
    finally:
        connection.close()
