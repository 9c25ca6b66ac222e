"""Every metric, under its public name. Labels are bounded: never a recipient, sender, batch or
message. Base units: seconds, messages.

Counters and histograms are of one process, fed once per entry or answer, with children that are
looked up once. The gauges of `STORE_GAUGES` are of the whole store and shown by one process at a
time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry(auto_describe=True)

MESSAGES = Counter(
    "dispatcher_messages",
    "Messages by what became of them; retried and deferred ones come again.",
    ["provider", "carrier", "channel", "outcome"],
    registry=REGISTRY,
)
TENANT_MESSAGES = Counter(
    "dispatcher_tenant_messages",
    "Messages of each tenant by what became of them; retried and deferred ones come again.",
    ["tenant", "channel", "outcome"],
    registry=REGISTRY,
)
SEGMENTS = Counter(
    "dispatcher_segments",
    "Segments of the SMS and MMS sent, what providers bill.",
    ["provider", "carrier", "tenant"],
    registry=REGISTRY,
)
SEND_ERRORS = Counter(
    "dispatcher_send_errors",
    "Messages that a provider did not accept, by its code.",
    ["provider", "carrier", "code"],
    registry=REGISTRY,
)
SUBMITTED = Counter(
    "dispatcher_submitted",
    "Messages accepted over HTTP.",
    ["tenant", "channel"],
    registry=REGISTRY,
)
REJECTED = Counter(
    "dispatcher_rejected",
    "Recipients refused over HTTP, by the reason.",
    ["code"],
    registry=REGISTRY,
)
RECEIPTS = Counter(
    "dispatcher_receipts",
    "Delivery reports, by the status they tell.",
    ["provider", "carrier", "status"],
    registry=REGISTRY,
)
INFLIGHT = Gauge(
    "dispatcher_inflight", "Requests without an answer.", ["provider"], registry=REGISTRY
)
CLAIMS = Counter(
    "dispatcher_claims", "Calls that asked the store for messages and slots.", registry=REGISTRY
)
RECLAIMED = Counter(
    "dispatcher_reclaimed", "Messages taken over from silent workers.", registry=REGISTRY
)
LEASE_LOST = Counter(
    "dispatcher_lease_lost", "Entries that another worker had taken over.", registry=REGISTRY
)
LOOP_LAG = Gauge(
    "dispatcher_loop_lag_seconds",
    "How late the event loop was in the last second, in seconds.",
    registry=REGISTRY,
)

BREAKER_STATES = {"closed": 0, "probe": 1, "half": 1, "open": 2}
OTHER = "other"
"""The label of all values beyond those that have a series of their own."""


class Bounded:
    """Keeps the values of a label few: the first `most` have their name, all others are `OTHER`.
    Submitters name carriers, and an endpoint may make up any number of codes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: set[str] = set()

    def of(self, value: str) -> str:
        """The label of a value."""
        if len(self._names) < self._most:
            self._names.add(value)
        return value if value in self._names else OTHER


CARRIERS = Bounded(500)
CODES = Bounded(200)


class Shown(NamedTuple):
    """A gauge of the whole store: what it says and its labels."""

    text: str
    labels: tuple[str, ...] = ()


_LANES = ("provider", "carrier", "class")
STORE_GAUGES = {
    "dispatcher_queue_depth": Shown("Messages that wait in queues.", _LANES),
    "dispatcher_queue_oldest_seconds": Shown(
        "Age of the oldest entry in a queue, in seconds since it was put there.", _LANES
    ),
    "dispatcher_drain_seconds": Shown(
        "Seconds until the messages that wait now are gone, at the rates of their limits; of "
        "several lanes the longest.",
        _LANES,
    ),
    "dispatcher_limit_rate": Shown(
        "Units per second that a limit lets pass now; the sum of all its values.", ("limit",)
    ),
    "dispatcher_limit_used_ratio": Shown(
        "Share of a limit or its quota that is used, 0 to 1; of all its values the fullest. At 1 "
        "messages wait for it.",
        ("limit",),
    ),
    "dispatcher_limit_paused_seconds": Shown(
        "Seconds for which a provider's answer still stops a limit; the longest of its values.",
        ("limit",),
    ),
    "dispatcher_breaker_state": Shown(
        "State of a provider's breaker: 0 closed, 1 half-open, 2 open.", ("provider",)
    ),
    "dispatcher_orphaned_messages": Shown("Messages that wait for a provider nobody serves."),
    "dispatcher_drainable_messages": Shown(
        "Messages that limits let pass within 60 s if there are workers enough."
    ),
    "dispatcher_unfinished_messages": Shown(
        "Messages without an outcome: queued, held by workers or scheduled."
    ),
    "dispatcher_leaving_entries": Shown(
        "Entries, of up to 500 messages each, on their way to another cell. A worker carries them "
        "within seconds: what stays cannot get there."
    ),
    "dispatcher_dead_letters": Shown("Messages kept as dead or unknown, for an operator to see."),
    "dispatcher_lanes_suspended": Shown("Lanes that an operator has stopped.", ("provider",)),
    "dispatcher_workers": Shown("Workers registered in the store."),
    "dispatcher_store_memory_bytes": Shown("Memory the store uses, in bytes."),
    "dispatcher_store_memory_limit_bytes": Shown(
        "Memory the store may use (maxmemory), in bytes; 0 without a limit."
    ),
}
"""By name: what one process at a time shows of the whole store."""

Series: TypeAlias = dict[tuple[str, ...], float]


class StoreGauges(Collector):
    """The gauges of the whole store. They are shown until a deadline (monotonic clock), so that a
    process that lost its lease while it was frozen shows nothing when it wakes up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._series: Mapping[str, Series] = {}
        self._until = 0.0
        registry.register(self)

    def show(self, series: Mapping[str, Series], until: float) -> None:
        """Show these values, by name and labels, in place of those before."""
        self._series, self._until = series, until

    def clear(self) -> None:
        """Show nothing."""
        self._series = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See prometheus_client.registry.Collector."""
        series = self._series if monotonic() < self._until else {}
        for name, gauge in STORE_GAUGES.items():
            family = GaugeMetricFamily(name, gauge.text, labels=gauge.labels)
            for labels, value in series.get(name, {}).items():
                family.add_metric(labels, value)
            yield family


WHOLE_STORE = StoreGauges(REGISTRY)


class Timing:
    """One series of a histogram. `observe` costs a fraction of a microsecond."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count a duration."""
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.total += seconds * times


class Timings(Collector):
    """A histogram of durations with at most one label."""

    def __init__(self, name: str, text: str, bounds: Iterable[float], label: str = "") -> None:
        self._name = name
        self._text = text
        self._bounds = tuple(bounds)
        self.labels = (label,) if label else ()
        self._series: dict[str, Timing] = {}
        REGISTRY.register(self)

    def of(self, value: str = "") -> Timing:
        """The series of one label value."""
        series = self._series.get(value)
        if series is None:
            series = self._series[value] = Timing(self._bounds)
        return series

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """See prometheus_client.registry.Collector."""
        family = HistogramMetricFamily(self._name, self._text, labels=self.labels)
        for value, series in list(self._series.items()):
            running, buckets = 0, []
            for bound, count in zip((*series.bounds, float("inf")), series.counts, strict=True):
                running += count
                shown = "+Inf" if bound == float("inf") else str(bound)
                buckets.append((shown, float(running)))
            family.add_metric([value] if self.labels else [], buckets, series.total)
        yield family


QUEUE_SECONDS = Timings(
    "dispatcher_queue_seconds",
    "Seconds from acceptance, or send_at, to sent.",
    (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 43200, 86400),
    "class",
)
SEND_SECONDS = Timings(
    "dispatcher_send_seconds",
    "Seconds from a request to its answer.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    "provider",
)
SETTLE_SECONDS = Timings(
    "dispatcher_settle_seconds",
    "Seconds a call took that writes outcomes to the store.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
