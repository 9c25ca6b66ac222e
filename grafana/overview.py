"""Overview: is it healthy, how fast, how late?"""

from __future__ import annotations

from grafana.board import Board, Section
from grafana.panels import (
    OUTCOMES,
    Column,
    Levels,
    Lines,
    Number,
    Query,
    Question,
    Rows,
    State,
    States,
)

RATES = 'job_provider_carrier_channel_outcome:dispatcher_messages:rate1m{job=~"$job"'
FINAL = 'outcome=~"sent|dead|suppressed|expired|unknown"'
WAITS = 'job_class_le:dispatcher_queue_seconds_bucket:rate1m{job=~"$job"'
DEPTH = 'max by (provider, class) (job_provider_class:dispatcher_queue_depth:sum{job=~"$job"})'
LANE = "max by (provider, carrier, class)"
SUBMITTED = 'job_tenant_channel:dispatcher_submitted:rate1m{job=~"$job"}'


def _quantile(share: float, matcher: str, labels: str) -> str:
    return f"histogram_quantile({share}, sum by ({labels}) ({WAITS}, {matcher}}}))"


def _of_those(metric: str) -> str:
    return f"{LANE} ({metric}) and {WAITING}"


FIGURES = (
    Number(
        Question(
            "Do workers claim?",
            "Worker processes that claimed within the last minute. At 0 nothing is sent.",
            "none", 4, 4, Levels(bad=1, falling=True),
        ),
        Query('sum(job:dispatcher_claiming:count{job=~"$job"}) or vector(0)', "workers"),
    ),
    Number(
        Question(
            "Is a provider out?",
            "Providers whose breaker is not closed: they get a probe now and then only.",
            "none", 4, 4, Levels(bad=1),
        ),
        Query(
            "sum(max by (provider) (job_provider:dispatcher_breaker_state:max"
            '{job=~"$job"}) > bool 0)',
            "providers out",
        ),
        {0: State("none", "green")},
    ),
    Number(
        Question(
            "How many are sent?",
            "Messages per second that a provider accepted, over the last minute.",
            "mps", 4, 4,
        ),
        Query(f'sum({RATES}, outcome="sent"}})', "sent"),
    ),
    Number(
        Question(
            "How late are codes?",
            "99 % of urgent messages were sent within this time of acceptance or send_at.",
            "s", 4, 4, Levels(2, 10),
        ),
        Query(_quantile(0.99, 'class="urgent"', "le"), "urgent, 99 %"),
    ),
    Number(
        Question(
            "How many are left?",
            "Messages without an outcome: queued, held by workers or scheduled. Many are no fault "
            "while a campaign runs: see when they will be gone.",
            "short", 4, 4,
        ),
        Query('max(dispatcher_unfinished_messages{job=~"$job"})', "unfinished"),
    ),
    Number(
        Question(
            "Do messages die?",
            "Share of the messages with an outcome that became dead letters, last minute.",
            "percentunit", 4, 4, Levels(0.02, 0.1),
        ),
        Query(
            f'(sum({RATES}, outcome="dead"}}) or vector(0)) / sum({RATES}, {FINAL}}})',
            "dead",
        ),
    ),
)  # fmt: skip


ALERTS = States(
    Question(
        "Which alerts are pending or firing?",
        "Every alert of this system that was not silent. Its runbook_url says what to do.",
        "none", 24, 5,
    ),
    Query(
        'max by (alertname) (2 * ALERTS{alertname=~"Dispatcher.*", alertstate="firing"} '
        'or ALERTS{alertname=~"Dispatcher.*", alertstate="pending"})',
        "{{alertname}}",
    ),
    {1: State("pending", "yellow"), 2: State("firing", "red")},
)  # fmt: skip


SPEED = (
    Lines(
        Question(
            "Does sending keep up with what comes in?",
            "Accepted by the API and sent by workers. What the send command writes to the "
            "store itself is not in the first line.",
            "mps", 8,
        ),
        Query(f"sum({SUBMITTED})", "accepted"),
        Query(f'sum({RATES}, outcome="sent"}})', "sent"),
    ),
    Lines(
        Question(
            "What becomes of messages?",
            "Outcomes per second. retried and deferred messages will be tried again.",
            "mps", 8,
        ),
        Query(f"sum by (outcome) ({RATES}}})", "{{outcome}}"),
        stacked=True,
        colors=OUTCOMES,
    ),
    Lines(
        Question(
            "Which channels are used?", "Messages sent per second, by channel.", "mps", 8
        ),
        Query(f'sum by (channel) ({RATES}, outcome="sent"}})', "{{channel}}"),
        stacked=True,
    ),
)  # fmt: skip


DELAY = (
    Lines(
        Question(
            "How long do messages wait before they are sent?",
            "From acceptance or send_at to the provider's answer: half and 99 % of the "
            "messages sent in the last minute, by class.",
            "s", 8,
        ),
        Query(_quantile(0.99, 'class!=""', "class, le"), "{{class}}, 99 %"),
        Query(_quantile(0.5, 'class!=""', "class, le"), "{{class}}, half"),
    ),
    Lines(
        Question("How many messages wait?", "Messages in queues, by class.", "short", 8),
        Query(f"sum by (class) ({DEPTH})", "{{class}}"),
        stacked=True,
    ),
    Lines(
        Question(
            "How old is the oldest message that waits?",
            "Age of the oldest entry in a queue, by class.",
            "s", 8,
        ),
        Query(
            'max by (class) (job_class:dispatcher_queue_oldest_seconds:max{job=~"$job"})',
            "{{class}}",
        ),
    ),
)  # fmt: skip


WAITING = (
    f'topk(15, {LANE} (job_provider_carrier_class:dispatcher_queue_depth:max{{job=~"$job"}}) > 0)'
)
BACKLOG = Rows(
    Question(
        "Which lanes hold the backlog?",
        "The 15 with most messages waiting now. drained in: at the rates of their limits.",
        "short", 24,
    ),
    Column("waiting", WAITING),
    Column("oldest", _of_those('dispatcher_queue_oldest_seconds{job=~"$job"}'), "s"),
    Column("drained in", _of_those('dispatcher_drain_seconds{job=~"$job"}'), "s"),
    sort="waiting",
)  # fmt: skip


TENANTS = (
    Lines(
        Question(
            "Which tenants submit most?",
            "Messages per second that the API accepted from each of the ten largest.",
            "mps", 12,
        ),
        Query(f"topk(10, sum by (tenant) ({SUBMITTED}))", "{{tenant}}"),
    ),
    Lines(
        Question(
            "Why is the API refusing recipients?",
            "Refused per second, by the code in the answer. The valid rest was accepted.",
            "mps", 12,
        ),
        Query('sum by (code) (job_code:dispatcher_rejected:rate1m{job=~"$job"})', "{{code}}"),
    ),
)  # fmt: skip

OVERVIEW = Board(
    "overview",
    "overview",
    "Is it healthy? How fast? How late?",
    (
        Section("Is it healthy?", (*FIGURES, ALERTS)),
        Section("How fast?", SPEED),
        Section("How late?", (*DELAY, BACKLOG)),
        Section("Who submits?", TENANTS),
    ),
)
"""The first page to open."""
