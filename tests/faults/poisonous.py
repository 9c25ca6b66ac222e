"""A provider whose process ends when it composes the message to one recipient."""

from __future__ import annotations

import os
from collections.abc import Callable

from dispatcher.exchange import HttpRequest, Outgoing
from dispatcher.messages import Envelope
from dispatcher.providers.webhook import Webhook

POISON = "+4915100000017"


class Poisonous(Webhook):
    """A webhook; as a fault in a C extension would, that message takes the process with it."""

    def compose(self, envelope: Envelope) -> Callable[[Outgoing], HttpRequest]:
        """See dispatcher.exchange.Provider."""
        inner = super().compose(envelope)

        def composed(message: Outgoing) -> HttpRequest:
            if message.to == POISON:
                os._exit(70)
            return inner(message)

        return composed
