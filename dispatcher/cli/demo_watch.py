"""Follows the batches of the demo in the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dispatcher.cli.demo_codes import Codes
from dispatcher.cli.demo_setup import TENANT
from dispatcher.store.inspector import BatchView, Inspector, LaneView


class Sample(NamedTuple):
    """What the store said at one moment; `campaigns` has those that are accepted in part at least,
    by channel. Of `posted` codes `ended` have their outcome."""

    lanes: Sequence[LaneView]
    campaigns: dict[str, BatchView]
    posted: int
    ended: int

    def finished(self) -> bool:
        """Whether nothing accepted is without an outcome."""
        return self.posted == self.ended and not any(map(waiting, self.campaigns.values()))


def waiting(batch: BatchView) -> int:
    """Messages of a batch without an outcome."""
    return batch.counts["queued"] + batch.counts["scheduled"]


class Watch:
    """Looks again and again, at codes only until they have their outcome."""

    def __init__(self, inspector: Inspector, lanes: Iterable[str], codes: Codes) -> None:
        self._inspector = inspector
        self._lanes = tuple(lanes)
        self._codes = codes
        self._campaigns: dict[str, str] = {}
        self._known: set[str] = set()
        self._ended: set[str] = set()

    async def look(self, channels: Iterable[str]) -> Sample:
        """The state of all lanes, of the campaigns on `channels` and of the codes."""
        if set(channels) - self._campaigns.keys():
            await self._find()
        campaigns = {
            channel: view
            for channel, batch in self._campaigns.items()
            if (view := await self._inspector.batch(batch)) is not None
        }
        posted = [receipt.batch for receipt in self._codes.receipts]
        for batch in posted:
            if batch not in self._ended:
                view = await self._inspector.batch(batch)
                if view is not None and not waiting(view):
                    self._ended.add(batch)
        lanes = await self._inspector.lanes(self._lanes)
        return Sample(lanes, campaigns, len(posted), len(self._ended))

    async def _find(self) -> None:
        """See which batches are campaigns."""
        for batch in await self._inspector.batches():
            if batch in self._known:
                continue
            view = await self._inspector.batch(batch)
            if view is None or not view.tenant:
                continue
            self._known.add(batch)
            if view.tenant != TENANT:
                self._campaigns[view.channel] = batch
