"""Provider kind `webhook`: any HTTP endpoint that takes messages as JSON.

POST `{"id","channel","from","to","text","subject"?,"ref"?}` with `Idempotency-Key: <message id>`;
with `batch` above 1 `{"messages":[…]}` with the SHA-256 of their ids in order as the key. A 2xx
answer means accepted, optionally with the endpoint's own `{"id"}`, for a batch
`{"results":[{"id"|"error"}…]}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any

import msgspec

from dispatcher.config import PROVIDER_KEYS
from dispatcher.convert import convert
from dispatcher.errors import InvalidMessage, Permanent, SendError
from dispatcher.exchange import Accepted, HttpAnswer, HttpRequest, Outgoing
from dispatcher.messages import CHANNELS, Content, Envelope
from dispatcher.providers.answers import by_status, detail, json_object, too_large
from dispatcher.settings import ProviderConfig
from dispatcher.template import Template
from dispatcher.toml import Secret


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of this kind: the full address to post to, a bearer token if it wants one, and the most
    messages in one request."""

    url: str
    token: Secret | None = None
    batch: Annotated[int, msgspec.Meta(ge=1)] = 1

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
        self.batch = settings.batch
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
        Template.compile(content.subject or "")

    def compose(self, envelope: Envelope) -> Callable[[Outgoing], HttpRequest]:
        """One POST per message."""
        payload = _payload(envelope)
        return lambda message: self._post(payload(message), message.id)

    def read(self, answer: HttpAnswer) -> Accepted | SendError:
        """2xx is accepted whatever the body; everything else goes by its status."""
        if not 200 <= answer.status < 300:
            return _refusal(answer)
        return _accepted(json_object(answer.body))

    def compose_batch(self, envelope: Envelope) -> Callable[[Sequence[Outgoing]], HttpRequest]:
        """One POST for many messages."""
        payload = _payload(envelope)

        def request(messages: Sequence[Outgoing]) -> HttpRequest:
            ids = "\n".join([message.id for message in messages])
            body = {"messages": [payload(message) for message in messages]}
            return self._post(body, sha256(ids.encode()).hexdigest())

        return request

    def read_batch(self, answer: HttpAnswer, count: int) -> Sequence[Accepted | SendError]:
        """In a 2xx answer a message without a result is accepted; everything else goes by its
        status and holds for all of them."""
        if answer.status == 413:
            return [too_large(answer, count)] * count
        if not 200 <= answer.status < 300:
            return [_refusal(answer)] * count
        results = json_object(answer.body).get("results")
        verdicts = [_verdict(one) for one in results[:count]] if isinstance(results, list) else []
        return verdicts + [Accepted()] * (count - len(verdicts))

    def _post(self, body: object, key: str) -> HttpRequest:
        headers = {**self._headers, "Idempotency-Key": key}
        return HttpRequest("POST", self._url, headers, msgspec.json.encode(body), self._timeout)


def _payload(envelope: Envelope) -> Callable[[Outgoing], _Payload]:
    """What makes a message as it stands on the wire."""
    channel, subject = envelope.channel, envelope.content.subject
    render = Template.compile(subject or "").bind(envelope.columns)

    def payload(message: Outgoing) -> _Payload:
        return _Payload(
            id=message.id,
            channel=channel,
            from_=message.sender,
            to=message.to,
            text=message.text,
            subject=None if subject is None else render(message.values),
            ref=message.ref,
        )

    return payload


def _verdict(result: object) -> Accepted | SendError:
    found = result if isinstance(result, dict) else {}
    error = found.get("error")
    if error is not None:
        return Permanent(detail(error), detail(found.get("detail", "")))
    return _accepted(found)


def _accepted(found: Mapping[str, Any]) -> Accepted:
    own = found.get("id")
    return Accepted(str(own) if own is not None else None)


def _refusal(answer: HttpAnswer) -> SendError:
    found = json_object(answer.body)
    return by_status(answer, str(found.get("code", "")), found.get("error", ""))
