"""Throttling: what do messages wait for, and is a limit set right?"""

from __future__ import annotations

from grafana.board import Board, Section, values
from grafana.panels import Bars, Levels, Lines, Number, Query, Question

JOB = 'job=~"$job"'
CHOSEN = 'job=~"$job", limit=~"$limit"'
DEPTH = f"job_provider_class:dispatcher_queue_depth:sum{{{JOB}}}"
RATES = f"job_provider_carrier_channel_outcome:dispatcher_messages:rate1m{{{JOB}"
LANES = f"job_provider_carrier_class:dispatcher_queue_depth:max{{{JOB}}}"


FULLNESS = Bars(
    Question(
        "How full are the limits?",
        "Share used of the burst or a quota, on average over five minutes: at 100 % the limit is "
        "what its lanes wait for. Where one stands per sender or tenant, the fullest.",
        "percentunit", 8, 8, Levels(0.8, 0.95),
    ),
    Query(
        "sort_desc(max by (limit) "
        f"(avg_over_time(dispatcher_limit_used_ratio{{{CHOSEN}}}[5m])))",
        "{{limit}}",
    ),
    most=1.0,
)  # fmt: skip


LIMITS = (
    Lines(
        Question(
            "How full were the limits?",
            "Share used of the burst or a quota, on average over a minute.",
            "percentunit", 8, levels=Levels(bad=0.95),
        ),
        Query(
            f"max by (limit) (avg_over_time(dispatcher_limit_used_ratio{{{CHOSEN}}}[1m]))",
            "{{limit}}",
        ),
    ),
    Lines(
        Question(
            "Which rate do the limits allow?",
            "Units per second in force now: as configured, as set by an operator, or less while a "
            "provider asks for less.",
            "cps", 8,
        ),
        Query(f"max by (limit) (dispatcher_limit_rate{{{CHOSEN}}})", "{{limit}}"),
        steps=True,
    ),
)  # fmt: skip


PROVIDER_RATE = (
    f'max by (provider) (label_replace(dispatcher_limit_rate{{{JOB}, limit=~"provider:.+"}}, '
    '"provider", "$1", "limit", "provider:(.+)"))'
)
THROTTLED = (
    Lines(
        Question(
            "How much of its rate does each provider use?",
            "Messages sent, of the rate in force. Well below 100 % while messages wait: another "
            "limit binds, or workers are short.",
            "percentunit", 8,
        ),
        Query(
            f'sum by (provider) ({RATES}, outcome="sent"}}) / {PROVIDER_RATE}',
            "{{provider}}",
        ),
    ),
    Lines(
        Question(
            "Which limits does a provider make pause?",
            "Seconds until the limit goes on. A provider said: too fast. Often so, and the "
            "rate is set too high.",
            "s", 8, levels=Levels(bad=30),
        ),
        Query(f"max by (limit) (dispatcher_limit_paused_seconds{{{CHOSEN}}})", "{{limit}}"),
    ),
    Lines(
        Question(
            "What share is put off?",
            "Messages deferred, of those sent or deferred in the last minute, by provider: "
            "throttled, or their provider is down. No attempt is used.",
            "percentunit", 8, levels=Levels(0.05, 0.2),
        ),
        Query(
            f'sum by (provider) ({RATES}, outcome="deferred"}}) / '
            f'sum by (provider) ({RATES}, outcome=~"sent|deferred"}})',
            "{{provider}}",
        ),
    ),
)  # fmt: skip


FIGURES = (
    Number(
        Question(
            "When is the backlog gone?",
            "Seconds until the slowest lane is drained, at the rates of its limits.",
            "s", 8, 4,
        ),
        Query(f"max(dispatcher_drain_seconds{{{JOB}}})", "drained in"),
    ),
    Number(
        Question(
            "Would more workers help?",
            "Messages that could leave within a minute under all limits, against those that "
            "did. Well above 1: workers are what is short.",
            "none", 8, 4, Levels(2, 5),
        ),
        Query(
            f"max(dispatcher_drainable_messages{{{JOB}}}) / "
            f'(60 * sum({RATES}, outcome="sent"}}))',
            "could leave ÷ left",
        ),
    ),
    Number(
        Question(
            "Are lanes suspended?",
            "Lanes that an operator stopped: dispatcher lanes shows which, why and until when.",
            "none", 8, 4, Levels(warning=1),
        ),
        Query(
            f"sum(max by (provider) (dispatcher_lanes_suspended{{{JOB}}}))", "suspended"
        ),
    ),
)  # fmt: skip


WAITING = (
    Lines(
        Question(
            "Which carriers have the longest queues?",
            "Messages waiting, by provider and carrier: the ten longest.",
            "short", 8,
        ),
        Query(
            "topk(10, sum by (provider, carrier) "
            f"(max by (provider, carrier, class) ({LANES})))",
            "{{provider}} {{carrier}}",
        ),
    ),
    Lines(
        Question(
            "Which carriers take longest to drain?",
            "Seconds until all that waits has left, by provider and carrier: the ten longest.",
            "s", 8,
        ),
        Query(
            f"topk(10, max by (provider, carrier) (dispatcher_drain_seconds{{{JOB}}}))",
            "{{provider}} {{carrier}}",
        ),
    ),
    Lines(
        Question(
            "How much of the backlog could leave within a minute?",
            "All that waits, and what its limits would let go within 60 s: autoscaling follows "
            "the second.",
            "short", 8,
        ),
        Query(f"sum(max by (provider, class) ({DEPTH}))", "waiting"),
        Query(f"max(dispatcher_drainable_messages{{{JOB}}})", "could leave"),
    ),
)  # fmt: skip

THROTTLING = Board(
    "throttling",
    "throttling",
    "What do messages wait for? Is a limit set right?",
    (
        Section("Which limits bind?", (FULLNESS, *LIMITS)),
        Section("Do providers want less?", THROTTLED),
        Section("What waits?", (*FIGURES, *WAITING)),
    ),
    (values("limit", "Limit", "dispatcher_limit_rate"),),
)
"""Where messages wait for a slot."""
