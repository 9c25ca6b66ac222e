"""Reliability: is anything lost, repeated or in doubt, and do workers and store keep up?"""

from __future__ import annotations

from grafana.board import Board, Section
from grafana.panels import OUTCOMES, Levels, Lines, Number, Query, Question, State

JOB = 'job=~"$job"'
RATES = f"job_provider_carrier_channel_outcome:dispatcher_messages:rate1m{{{JOB}"
SETTLES = f"job_le:dispatcher_settle_seconds_bucket:rate1m{{{JOB}}}"
UNKNOWN = f'dispatcher_tenant_messages_total{{{JOB}, outcome="unknown"}}'
"""increase alone does not see the first value of a new series."""

FIGURES = (
    Number(
        Question(
            "Do messages wait for nobody?",
            "Messages for providers that the configuration no longer has: move them to another.",
            "none", 6, 4, Levels(bad=1),
        ),
        Query(f"max(dispatcher_orphaned_messages{{{JOB}}})", "orphaned"),
        {0: State("none", "green")},
    ),
    Number(
        Question(
            "Is any outcome unknown?",
            "Messages of the last hour that may or may not have been sent and are held for a "
            "decision: dispatcher dead list --code unknown.",
            "none", 6, 4, Levels(warning=1),
        ),
        Query(
            f"sum(({UNKNOWN} unless {UNKNOWN} offset 1h) or increase({UNKNOWN}[1h])) or vector(0)",
            "unknown",
        ),
    ),
    Number(
        Question(
            "Must somebody look?",
            "Dead letters and unknown outcomes that are kept: dispatcher dead list.",
            "short", 6, 4, Levels(warning=1),
        ),
        Query(f"max(dispatcher_dead_letters{{{JOB}}})", "kept"),
    ),
    Number(
        Question(
            "Were messages taken over?",
            "Messages of the last hour that a silent worker held and that were put back.",
            "none", 6, 4, Levels(warning=1),
        ),
        Query(f"sum(increase(dispatcher_reclaimed_total{{{JOB}}}[1h]))", "taken over"),
    ),
)  # fmt: skip


ENDS = (
    Lines(
        Question(
            "What was not sent, and why?",
            "Messages per second that ended otherwise than sent. suppressed: by policy or by "
            "the recipient. expired: too late.",
            "mps", 8,
        ),
        Query(
            f'sum by (outcome) ({RATES}, outcome=~"dead|suppressed|expired|unknown"}})',
            "{{outcome}}",
        ),
        stacked=True,
        colors=OUTCOMES,
    ),
    Lines(
        Question(
            "How often is a send repeated?",
            "Attempts that failed and will be made again, for each message sent, by provider.",
            "percentunit", 8, levels=Levels(0.1, 0.5),
        ),
        Query(
            f'sum by (provider) ({RATES}, outcome="retried"}}) / '
            f'sum by (provider) ({RATES}, outcome="sent"}})',
            "{{provider}}",
        ),
    ),
    Lines(
        Question(
            "For which tenants do messages die?",
            "Dead letters per second of the ten tenants with most of them.",
            "mps", 8,
        ),
        Query(
            "topk(10, sum by (tenant) (rate("
            f'dispatcher_tenant_messages_total{{{JOB}, outcome="dead"}}[$__rate_interval])))',
            "{{tenant}}",
        ),
    ),
)  # fmt: skip


WORKERS = (
    Lines(
        Question(
            "Are all processes reachable?",
            "Processes that Prometheus knows, those that answer it, and the workers registered "
            "in the store. A gap is a process that died or hangs.",
            "none", 8,
        ),
        Query(f"count(up{{{JOB}}})", "known"),
        Query(f"sum(up{{{JOB}}})", "answering"),
        Query(f"max(dispatcher_workers{{{JOB}}})", "workers registered"),
        steps=True,
    ),
    Lines(
        Question(
            "Do workers die or fall silent?",
            "Messages per second taken over from silent workers, and entries that a worker "
            "lost because it was silent itself.",
            "mps", 8,
        ),
        Query(
            f"sum(rate(dispatcher_reclaimed_total{{{JOB}}}[$__rate_interval]))", "taken over"
        ),
        Query(
            f"sum(rate(dispatcher_lease_lost_total{{{JOB}}}[$__rate_interval]))",
            "entries lost",
        ),
    ),
    Lines(
        Question(
            "How late do event loops run?",
            "The ten latest processes. Above 50 ms slots are missed and limits are not used "
            "fully; above a second leases are at risk.",
            "s", 8, levels=Levels(0.05, 1),
        ),
        Query(
            f"topk(10, max by (instance) (dispatcher_loop_lag_seconds{{{JOB}}}))",
            "{{instance}}",
        ),
    ),
)  # fmt: skip


STORE = (
    Lines(
        Question(
            "How long do settles take?",
            "One call that writes outcomes: half and 99 % of those of the last minute.",
            "s", 8, levels=Levels(0.1, 0.5),
        ),
        Query(f"histogram_quantile(0.99, sum by (le) ({SETTLES}))", "99 %"),
        Query(f"histogram_quantile(0.5, sum by (le) ({SETTLES}))", "half"),
    ),
    Lines(
        Question(
            "How many calls does the store get?",
            "Claims and settles per second of all workers. Both at 0: no worker reaches the "
            "store.",
            "cps", 8,
        ),
        Query(f"sum(job:dispatcher_claims:rate1m{{{JOB}}})", "claims"),
        Query(
            'sum(job_le:dispatcher_settle_seconds_bucket:rate1m{job=~"$job", le="+Inf"})',
            "settles",
        ),
    ),
    Lines(
        Question(
            "Does the store's memory suffice?",
            "Used, and the most it may use where maxmemory is set. The API refuses messages "
            "at 85 % of it; workers go on.",
            "bytes", 8,
        ),
        Query(f"max(dispatcher_store_memory_bytes{{{JOB}}})", "used"),
        Query(f"max(dispatcher_store_memory_limit_bytes{{{JOB}}}) > 0", "at most"),
    ),
)  # fmt: skip

RELIABILITY = Board(
    "reliability",
    "reliability",
    "Is anything lost or in doubt? Do workers and store keep up?",
    (
        Section("Is anything lost or in doubt?", (*FIGURES, *ENDS)),
        Section("Do workers keep their leases?", WORKERS),
        Section("Does the store keep up?", STORE),
    ),
)
"""What went wrong, and whether it mended itself."""
