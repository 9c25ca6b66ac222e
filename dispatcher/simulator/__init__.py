"""Fake providers over real sockets, with a journal of what they were sent and faults to order.

Written from what providers document, never from this project's own adapters, so that it can catch
their mistakes.
"""

from __future__ import annotations

from dispatcher.simulator.faults import (
    Close,
    Fault,
    Garbage,
    Hang,
    Refuse,
    ResetAfter,
    ResetBefore,
    Slow,
    Truncate,
)
from dispatcher.simulator.journal import Counts, Entry, Journal
from dispatcher.simulator.provider import Latency
from dispatcher.simulator.sendgrid import SendGridAccount
from dispatcher.simulator.settings import Settings, load_settings
from dispatcher.simulator.simulator import Simulator
from dispatcher.simulator.twilio import TwilioAccount
from dispatcher.simulator.webhook import WebhookAccount

__all__ = [
    "Close",
    "Counts",
    "Entry",
    "Fault",
    "Garbage",
    "Hang",
    "Journal",
    "Latency",
    "Refuse",
    "ResetAfter",
    "ResetBefore",
    "SendGridAccount",
    "Settings",
    "Simulator",
    "Slow",
    "Truncate",
    "TwilioAccount",
    "WebhookAccount",
    "load_settings",
]
