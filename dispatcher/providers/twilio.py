"""Provider kind `twilio`: Programmable Messaging, SMS.

Facts: twilio-oai spec/json/twilio_api_v2010.json (request, answer, 1,600 characters, one recipient
a request, no idempotency key); error codes from twilio.com/docs/api/errors.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from urllib.parse import quote_plus

import msgspec

from dispatcher.config import PROVIDER_KEYS
from dispatcher.convert import convert
from dispatcher.errors import (
    ContentRejected,
    InvalidMessage,
    InvalidRecipient,
    OptedOut,
    OutcomeUnknown,
    Permanent,
    ProviderDown,
    Scope,
    SendError,
    Throttled,
    Transient,
    WindowClosed,
)
from dispatcher.exchange import Accepted, HttpAnswer, HttpRequest, Outgoing
from dispatcher.messages import Content, Envelope
from dispatcher.providers.answers import by_status, detail, json_object, retry_after
from dispatcher.providers.form import Quoter, quote_number
from dispatcher.settings import ProviderConfig
from dispatcher.toml import Secret

TEXT_CHARACTERS = 1600
API = "https://api.twilio.com"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of this kind. `status_callback` is where Twilio reports what became of a message."""

    account_sid: str
    auth_token: Secret
    status_callback: str | None = None

    def __post_init__(self) -> None:
        if not (self.account_sid.startswith("AC") and len(self.account_sid) == 34):
            raise ValueError(
                f'account_sid must be "AC" and 32 hexadecimal digits, got "{self.account_sid}"'
            )


def _table(classes: Mapping[type[SendError], str]) -> dict[int, type[SendError]]:
    return {int(code): kind for kind, codes in classes.items() for code in codes.split()}


ERRORS = _table(
    {
        Throttled: "20429 14107 21611 30001 30022 30023 30027 63017 63018 63038 63119",
        Transient: "20500 20503 30003 30008 30017 30020 30021 30410 63009 63010 63012",
        InvalidRecipient: "21211 21214 21217 21219 21608 21612 21614 30004 30005 30006 30011"
        " 63003 63014 63024 63033 63036",
        OptedOut: "21610",
        ContentRejected: "21602 21617 21620 21623 21654 21655 21656 30007 30012 30013 30014 30015"
        " 30019 63005 63006 63013 63021 63027 63028 63029 63032 63041 63049",
        WindowClosed: "63016",
        Permanent: "21408 21603 21606",
        ProviderDown: "20003 20005 20404 21701 21702 21703 21704 21705 30002 30018 30024 30032"
        " 30034 63001 63002 63007 63008 63020 63026 63035 63039",
    }
)
"""What each code means for us; a code that is not here goes by the HTTP status. A sender or a
region that is not enabled (21408, 21606) kills its own messages only: other lanes go on."""

SCOPES: dict[int, Scope] = {
    14107: "recipient",
    **dict.fromkeys((21611, 30001, 30022, 30023, 30027, 63018, 63119), "sender"),
}
"""Which throttled codes are not about the whole account: too many messages between two numbers; a
sender's queue, campaign or channel that is full."""


class Twilio:
    """One account. Twilio knows no idempotency key: what was sent twice arrives twice."""

    channels = frozenset({"sms"})
    idempotent = False
    text_characters = TEXT_CHARACTERS
    batch = 1

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        settings = convert(config.settings, Settings, f"providers.{name}", also=PROVIDER_KEYS)
        account = settings.account_sid
        base = (config.base_url or API).rstrip("/")
        login = b64encode(f"{account}:{settings.auth_token.reveal()}".encode()).decode()
        self._url = f"{base}/2010-04-01/Accounts/{account}/Messages.json"
        self._timeout = float(config.timeout)
        self._callback = settings.status_callback
        self._headers = {
            "Authorization": f"Basic {login}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }

    def check(self, channel: str, content: Content) -> None:
        """SMS carries text only."""
        if content.text is None:
            raise InvalidMessage("unsupported_content", "twilio SMS carries text, not templates")
        if content.subject or content.html or content.media or content.reply_to or content.headers:
            raise InvalidMessage("unsupported_content", "twilio SMS carries text only")

    def compose(self, envelope: Envelope) -> Callable[[Outgoing], HttpRequest]:
        """One form POST per message."""
        url, headers, timeout = self._url, self._headers, self._timeout
        tail = self._tail(envelope)
        senders: dict[str, str] = {}
        quote = Quoter()

        def request(message: Outgoing) -> HttpRequest:
            sender = senders.get(message.sender)
            if sender is None:
                key = "MessagingServiceSid" if message.sender.startswith("MG") else "From"
                sender = senders[message.sender] = f"&{key}={quote_plus(message.sender)}"
            form = f"To={quote_number(message.to)}{sender}&Body={quote(message.text)}"
            if tail:
                form += tail + message.id
            return HttpRequest("POST", url, headers, form.encode("ascii"), timeout)

        return request

    def _tail(self, envelope: Envelope) -> str:
        """The callback address, which ends in the message id."""
        if self._callback is None:
            return ""
        joint = "&" if "?" in self._callback else "?"
        return "&StatusCallback=" + quote_plus(f"{self._callback}{joint}m=")

    def read(self, answer: HttpAnswer) -> Accepted | SendError:
        """201 is accepted. Errors go by Twilio's own code first, by the HTTP status second."""
        found = json_object(answer.body)
        if answer.status in (200, 201):
            sid = found.get("sid")
            if sid is None and answer.status == 200:
                return OutcomeUnknown("garbage", "a 200 answer that is not Twilio's")
            return Accepted(str(sid) if sid is not None else None)
        code, words = found.get("code"), detail(found.get("message", ""))
        kind = ERRORS.get(code) if isinstance(code, int) else None
        if kind is None and answer.status == 404:
            return ProviderDown("404", "no such account or address: account_sid, base_url")
        if kind is None or answer.status >= 500:
            return by_status(answer, str(code or ""), words)
        if kind is Throttled:
            scope = SCOPES.get(code or 0, "account")
            return Throttled(str(code), words, retry_after(answer), scope)
        return kind(str(code), words, retry_after(answer))
