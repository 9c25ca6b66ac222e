"""Provider kind `webhook`: any HTTP endpoint that takes messages as JSON.

POST `{"id","channel","from","to","text","subject"?,"ref"?}` with `Idempotency-Key: <message id>`.
A 2xx answer means accepted, optionally with the endpoint's own `{"id"}`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dispatcher.config import PROVIDER_KEYS
from dispatcher.convert import convert
from dispatcher.errors import InvalidMessage, SendError
from dispatcher.exchange import Accepted, HttpAnswer, HttpRequest, Outgoing
from dispatcher.messages import CHANNELS, Content, Envelope
from dispatcher.providers.answers import by_status, json_object
from dispatcher.settings import ProviderConfig, Secret


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of this kind: the full address to post to, and a bearer token if it wants one."""

    url: str
    token: Secret | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f'url must start with "http://" or "https://", got "{self.url}"')


class _Payload(msgspec.Struct, omit_defaults=True):
    id: str
    channel: str
    from_: str = msgspec.field(name="from")
    to: str
    text: str
    subject: str | None = None
    ref: str | None = None


class Webhook:
    """One endpoint. It is asked to de-duplicate by message id, so sending again is safe."""

    channels = frozenset(CHANNELS)
    idempotent = True
    text_characters = None

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        settings = convert(config.settings, Settings, f"providers.{name}", also=PROVIDER_KEYS)
        self._url = settings.url
        self._timeout = float(config.timeout)
        self._headers = {"Content-Type": "application/json"}
        if settings.token is not None:
            self._headers["Authorization"] = f"Bearer {settings.token.reveal()}"

    def check(self, channel: str, content: Content) -> None:
        """A webhook carries text and subject."""
        if content.text is None:
            raise InvalidMessage("unsupported_content", "kind webhook carries text, not templates")
        if content.html or content.media or content.reply_to or content.headers:
            raise InvalidMessage(
                "unsupported_content", "kind webhook carries text and subject only"
            )

    def compose(self, envelope: Envelope) -> Callable[[Outgoing], HttpRequest]:
        """One POST per message."""
        channel, subject, encode = envelope.channel, envelope.content.subject, msgspec.json.encode

        def request(message: Outgoing) -> HttpRequest:
            body = encode(
                _Payload(
                    id=message.id,
                    channel=channel,
                    from_=message.sender,
                    to=message.to,
                    text=message.text,
                    subject=subject,
                    ref=message.ref,
                )
            )
            headers = {**self._headers, "Idempotency-Key": message.id}
            return HttpRequest("POST", self._url, headers, body, self._timeout)

        return request

    def read(self, answer: HttpAnswer) -> Accepted | SendError:
        """2xx is accepted whatever the body; everything else goes by its status."""
        found = json_object(answer.body)
        if 200 <= answer.status < 300:
            own = found.get("id")
            return Accepted(str(own) if own is not None else None)
        return by_status(answer, str(found.get("code", "")), found.get("error", ""))
