"""Providers: which of them is out, slow or refusing?"""

from __future__ import annotations

from grafana.board import Board, Section, values
from grafana.panels import Column, Levels, Lines, Query, Question, Rows, State, States

CHOSEN = 'job=~"$job", provider=~"$provider"'
SENT = (
    "sum by (provider) (job_provider_carrier_channel_outcome:dispatcher_messages:rate1m"
    f'{{{CHOSEN}, outcome="sent"}})'
)
ERRORS = f"job_provider_carrier_code:dispatcher_send_errors:rate1m{{{CHOSEN}}}"
ANSWERS = f"job_provider_le:dispatcher_send_seconds_bucket:rate1m{{{CHOSEN}"


def _quantile(share: float) -> str:
    return f"histogram_quantile({share}, sum by (provider, le) ({ANSWERS}}}))"


BREAKERS = States(
    Question(
        "Which providers get traffic?",
        "closed: all of it. probing: one request tries. open: none until the next probe.",
        "none", 24, 6,
    ),
    Query(
        f"max by (provider) (job_provider:dispatcher_breaker_state:max{{{CHOSEN}}})",
        "{{provider}}",
    ),
    {0: State("closed", "green"), 1: State("probing", "yellow"), 2: State("open", "red")},
)  # fmt: skip


FAILING = (
    Lines(
        Question(
            "What share of sends fails?",
            "Messages not accepted, of all answered in the last minute. The breaker "
            "opens at failures of the provider, not of single messages.",
            "percentunit", 12, levels=Levels(0.05, 0.2),
        ),
        Query(
            f"sum by (provider) ({ERRORS}) / (sum by (provider) ({ERRORS}) + {SENT})",
            "{{provider}}",
        ),
    ),
    Lines(
        Question(
            "Which errors do providers give?",
            "Messages per second that were not accepted, by the provider's code: the ten "
            "most frequent.",
            "mps", 12,
        ),
        Query(f"topk(10, sum by (provider, code) ({ERRORS}))", "{{provider}} {{code}}"),
    ),
)  # fmt: skip


SLOW = (
    Lines(
        Question(
            "How fast do providers answer?",
            "From request to answer: half and 99 % of the requests of the last minute.",
            "s", 12, levels=Levels(2, 10),
        ),
        Query(_quantile(0.99), "{{provider}}, 99 %"),
        Query(_quantile(0.5), "{{provider}}, half"),
    ),
    Lines(
        Question(
            "How many requests wait for an answer?",
            "In flight, over all workers. At concurrency × workers a slow provider holds "
            "back its own lanes.",
            "short", 12,
        ),
        Query(f"sum by (provider) (dispatcher_inflight{{{CHOSEN}}})", "{{provider}}"),
    ),
)  # fmt: skip


CARRIED = (
    Lines(
        Question(
            "How much does each provider send?", "Messages accepted per second.", "mps", 8
        ),
        Query(SENT, "{{provider}}"),
        stacked=True,
    ),
    Lines(
        Question(
            "How many messages wait for each provider?",
            "Messages in the queues of its lanes.",
            "short", 8,
        ),
        Query(
            "sum by (provider) (max by (provider, class) "
            f"(job_provider_class:dispatcher_queue_depth:sum{{{CHOSEN}}}))",
            "{{provider}}",
        ),
    ),
    Lines(
        Question(
            "How many segments are billed?",
            "Parts of SMS and MMS sent per second: what most providers charge for.",
            "cps", 8,
        ),
        Query(
            f"sum by (provider) (rate(dispatcher_segments_total{{{CHOSEN}}}[$__rate_interval]))",
            "{{provider}}",
        ),
    ),
)  # fmt: skip


CODES = Rows(
    Question(
        "Which carrier refuses what?",
        "Messages per minute not accepted, over the last ten minutes: the 20 most frequent.",
        "cpm", 24,
    ),
    Column(
        "per minute",
        f"topk(20, 60 * sum by (provider, carrier, code) (avg_over_time({ERRORS}[10m])) > 0)",
    ),
    sort="per minute",
)  # fmt: skip

PROVIDERS = Board(
    "providers",
    "providers",
    "Which provider is out, slow or refusing?",
    (
        Section("Which is out?", (BREAKERS, *FAILING)),
        Section("Which is slow?", SLOW),
        Section("What does each carry?", (*CARRIED, CODES)),
    ),
    (values("provider", "Provider", "dispatcher_inflight"),),
)
"""What each provider does with what we send."""
