"""Every metric of a process, under its public name. Labels are bounded: never a recipient, sender,
batch or message. Base units: seconds, messages.

Counters and histograms are fed once per entry or answer, with children that are looked up once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()

MESSAGES = Counter(
    "dispatcher_messages",
    "Outcomes of messages.",
    ["provider", "carrier", "channel", "outcome"],
    registry=REGISTRY,
)
TENANT_MESSAGES = Counter(
    "dispatcher_tenant_messages",
    "Outcomes of messages by who submitted them.",
    ["tenant", "channel", "outcome"],
    registry=REGISTRY,
)
SEND_ERRORS = Counter(
    "dispatcher_send_errors",
    "Sends that were not accepted, by the provider's code.",
    ["provider", "carrier", "code"],
    registry=REGISTRY,
)
SUBMITTED = Counter(
    "dispatcher_submitted", "Messages accepted.", ["tenant", "channel"], registry=REGISTRY
)
REJECTED = Counter("dispatcher_rejected", "Records refused.", ["code"], registry=REGISTRY)
INFLIGHT = Gauge(
    "dispatcher_inflight", "Requests without an answer.", ["provider"], registry=REGISTRY
)
BREAKER = Gauge(
    "dispatcher_breaker_state",
    "0 closed, 1 half-open, 2 open.",
    ["provider"],
    registry=REGISTRY,
)
CLAIMS = Counter("dispatcher_claims", "Claim calls.", registry=REGISTRY)
RECLAIMED = Counter(
    "dispatcher_reclaimed", "Messages taken over from silent workers.", registry=REGISTRY
)
LEASE_LOST = Counter(
    "dispatcher_lease_lost", "Entries that another worker had taken over.", registry=REGISTRY
)
LOOP_LAG = Gauge(
    "dispatcher_loop_lag_seconds", "How late the event loop is, lately.", registry=REGISTRY
)

BREAKER_STATES = {"closed": 0, "probe": 1, "half": 1, "open": 2}


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
        self._label = label
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
        labels = [self._label] if self._label else []
        family = HistogramMetricFamily(self._name, self._text, labels=labels)
        for value, series in list(self._series.items()):
            running, buckets = 0, []
            for bound, count in zip((*series.bounds, float("inf")), series.counts, strict=True):
                running += count
                shown = "+Inf" if bound == float("inf") else str(bound)
                buckets.append((shown, float(running)))
            family.add_metric([value] if labels else [], buckets, series.total)
        yield family


QUEUE_SECONDS = Timings(
    "dispatcher_queue_seconds",
    "From acceptance, or send_at, to sent.",
    (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 43200, 86400),
    "class",
)
SEND_SECONDS = Timings(
    "dispatcher_send_seconds",
    "From the request to the answer.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    "provider",
)
SETTLE_SECONDS = Timings(
    "dispatcher_settle_seconds",
    "One settle call.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
