"""A fake of Twilio's Messages resource.

Facts: facts page, section 1. Codes and statuses that page does not give are marked [MEM]: from
memory of Twilio's error dictionary.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from typing import Any, ClassVar

import msgspec

from dispatcher.simulator.form import read_form
from dispatcher.simulator.provider import (
    AccountSettings,
    Outcome,
    Provider,
    Refused,
    Submission,
    new_id,
    retry_after_header,
)
from dispatcher.simulator.segments import count_segments
from dispatcher.simulator.wire import Reply, Request

MAX_BODY = 1600
"""Characters of Body. [TWOAI]"""
MAX_VALIDITY = 36_000
"""Seconds of ValidityPeriod. [TWOAI]"""

_ROOT = "/2010-04-01/Accounts/"
_KNOWN = frozenset(
    {
        "AddressRetention",
        "ApplicationSid",
        "Attempt",
        "Body",
        "ContentRetention",
        "ContentSid",
        "ContentVariables",
        "FallbackFrom",
        "ForceDelivery",
        "From",
        "MaxPrice",
        "MediaUrl",
        "MessagingServiceSid",
        "PersistentAction",
        "ProvideFeedback",
        "RiskCheck",
        "ScheduleType",
        "SendAsMms",
        "SendAt",
        "ShortenUrls",
        "SmartEncoded",
        "StatusCallback",
        "To",
        "TrafficType",
        "ValidityPeriod",
    }
)
_REPEATABLE = frozenset({"MediaUrl", "PersistentAction"})

_ACCOUNT_SID = re.compile(r"AC[0-9a-f]{32}")
_SERVICE_SID = re.compile(r"MG[0-9a-f]{32}")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_SENDER = re.compile(r"[0-9]{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 +_&-]{1,11}")
_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][^\s#]*)?")
_SEND_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")

_MAGIC_FROM = {
    "+15005550001": "21212",
    "+15005550007": "21606",
    "+15005550008": "21611",
}
_MAGIC_TO = {
    "+15005550001": "21211",
    "+15005550002": "21612",
    "+15005550003": "21408",
    "+15005550004": "21610",
    "+15005550009": "21614",
}
_DETAILS = {
    "20001": "Unknown parameters",  # [MEM]
    "20003": "Authenticate",
    "20004": "Method not allowed",
    "20005": "Account is not active",
    "20404": "The requested resource was not found",  # [MEM]
    "20429": "Too Many Requests",
    "20500": "Internal Server Error",
    "20503": "Service Unavailable",
    "21211": "Invalid 'To' Phone Number",
    "21212": "Invalid 'From' Number",
    "21408": "Permission to send an SMS has not been enabled for the region of the 'To' number",
    "21602": "Message body is required",
    "21603": "A 'From' or 'MessagingServiceSid' is required",
    "21604": "A 'To' phone number is required",
    "21606": "The 'From' phone number is not a valid message-capable Twilio number of this account",
    "21609": "Invalid 'StatusCallback' URL",
    "21610": "Attempt to send to unsubscribed recipient",
    "21611": "This 'From' number has exceeded the maximum number of queued messages",
    "21612": "The 'To' phone number is not reachable from this 'From'",
    "21614": "'To' number is not a valid mobile number",
    "21617": "The concatenated message body exceeds the 1600 character limit",
    "21620": "Invalid media URL",
    "21654": "ContentSid Required",
    "21656": "The ContentVariables parameter is invalid",  # [MEM]
    "21701": "The Messaging Service is invalid",
    "21910": "'From' and 'To' must be of the same channel",  # [MEM]
    "30001": "Queue overflow",
    "30002": "Account suspended",
    "35118": "MessagingServiceSid is required to schedule a message",  # [MEM]
    "90007": "Invalid validity period value",
}
_STATUS_OF_CODE = {
    "20003": 401,
    "20004": 405,
    "20005": 403,  # [MEM]
    "20404": 404,
    "20429": 429,
    "20500": 500,
    "20503": 503,
    "21408": 403,  # [MEM]
    "21611": 429,  # [MEM]
}
_CODE_OF_STATUS = {401: "20003", 403: "20005", 404: "20404", 405: "20004", 429: "20429"}


class TwilioAccount(AccountSettings, frozen=True, kw_only=True, tag="twilio"):
    """An account. `api_keys` (key SID to secret) are accepted like the account's own token.

    With `numbers` set only those and the magic number +15005550006 are valid as From.
    """

    account_sid: str = "AC" + "0" * 32
    auth_token: str = "0" * 32
    api_keys: dict[str, str] = msgspec.field(default_factory=dict)
    numbers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _ACCOUNT_SID.fullmatch(self.account_sid):
            raise ValueError("account_sid is AC and 32 digits of 0-9a-f")
        if not self.auth_token:
            raise ValueError("auth_token is empty")

    @property
    def name(self) -> str:
        return self.account_sid

    def build(self) -> Provider[Any]:
        return Twilio(self)


class Twilio(Provider[TwilioAccount]):
    """`POST /2010-04-01/Accounts/{AccountSid}/Messages.json`."""

    kind: ClassVar[str] = "twilio"
    prefix: ClassVar[str] = "/2010-04-01/"

    def configure(self, settings: TwilioAccount) -> None:
        super().configure(settings)
        pairs = {settings.account_sid: settings.auth_token, **settings.api_keys}
        self._credentials = frozenset(
            base64.b64encode(f"{user}:{secret}".encode()).decode() for user, secret in pairs.items()
        )
        self._date = ""
        self._date_second = 0

    @property
    def path(self) -> str:
        return f"{_ROOT}{self.settings.account_sid}/Messages.json"

    def authenticate(self, request: Request) -> None:
        scheme, _, credentials = request.header(b"authorization").partition(" ")
        if scheme.lower() != "basic" or credentials.strip() not in self._credentials:
            raise refuse("20003")

    def read(self, request: Request) -> Sequence[Submission]:
        if request.method != "POST":
            raise refuse("20004")
        if request.media_type != "application/x-www-form-urlencoded":
            raise Refused(415, "20001", "Content-Type must be application/x-www-form-urlencoded")
        fields = _read_fields(request.body)
        _check_addresses(fields)
        self._check_sender(fields)
        _check_content(fields)
        _check_options(fields)
        sender = fields.get("From") or fields["MessagingServiceSid"]
        message = _own_id(fields.get("StatusCallback", ""))
        text = fields.get("Body", "")
        return (Submission(fields["To"], sender, text, message=message, fields=fields),)

    def accept(
        self, submissions: Sequence[Submission], concurrency: int
    ) -> tuple[Reply, Sequence[Outcome]]:
        fields = submissions[0].fields
        sid = new_id("MM" if "MediaUrl" in fields else "SM")
        body = msgspec.json.encode(self._resource(sid, fields))
        headers = (("Twilio-Concurrent-Requests", str(concurrency)),)
        return Reply(201, body, headers), (Outcome("accepted", sid),)

    def suspended(self) -> Refused:
        return refuse("20005")

    def throttled(self, retry_after: float) -> Refused:
        return refuse("20429")

    def ordered(self, status: int | None, code: str) -> Refused:
        if not code:
            default = "20500" if status == 500 else "20503" if status and status > 500 else "20001"
            code = _CODE_OF_STATUS.get(status or 0, default)
        return refuse(code, status=status)

    @classmethod
    def unknown(cls, request: Request) -> Refused:
        known_shape = request.path.startswith(_ROOT) and request.path.endswith("/Messages.json")
        return refuse("20003" if known_shape else "20404")

    @classmethod
    def refusal(cls, refused: Refused) -> Reply:
        headers = retry_after_header(refused)
        if refused.body is not None:
            return Reply(refused.status, refused.body.encode(), headers, "text/html")
        document = {
            "code": int(refused.code) if refused.code.isdigit() else refused.code,
            "message": refused.detail,
            "more_info": f"https://www.twilio.com/docs/errors/{refused.code}",
            "status": refused.status,
        }
        return Reply(refused.status, msgspec.json.encode(document), headers)

    def _check_sender(self, fields: Mapping[str, str]) -> None:
        sender = fields.get("From", "")
        if not sender:
            return
        channel, address = _channel(sender)
        if not (_PHONE.fullmatch(address) or channel == "rcs" or _SENDER.fullmatch(address)):
            raise refuse("21212")
        if sender in _MAGIC_FROM:
            raise refuse(_MAGIC_FROM[sender])
        numbers = self.settings.numbers
        if numbers and sender not in numbers and sender != "+15005550006":
            raise refuse("21606")

    def _resource(self, sid: str, fields: Mapping[str, str]) -> dict[str, Any]:
        service = fields.get("MessagingServiceSid")
        status = "scheduled" if "SendAt" in fields else "accepted" if service else "queued"
        body = fields.get("Body", "")
        uri = f"{_ROOT}{self.settings.account_sid}/Messages/{sid}"
        date = self._now()
        return {
            "account_sid": self.settings.account_sid,
            "api_version": "2010-04-01",
            "body": body,
            "date_created": date,
            "date_sent": None,
            "date_updated": date,
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": fields.get("From") or None,
            "messaging_service_sid": service,
            "num_media": str(len(fields.get("MediaUrl", "").split())),
            "num_segments": "0" if service else str(count_segments(body)),
            "price": None,
            "price_unit": None,
            "sid": sid,
            "status": status,
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": fields["To"],
            "uri": f"{uri}.json",
        }

    def _now(self) -> str:
        second = int(time.time())
        if second != self._date_second:
            self._date_second = second
            self._date = formatdate(second).replace("-0000", "+0000")
        return self._date


def refuse(code: str, detail: str = "", status: int | None = None) -> Refused:
    """The refusal for one of Twilio's codes, by default with the status that goes with it."""
    status = status or _STATUS_OF_CODE.get(code, 400)
    return Refused(status, code, detail or _DETAILS.get(code, f"Error {code}"))


def _read_fields(body: bytes) -> dict[str, str]:
    """The parameters. Those that may be repeated are joined by a space, which no URL contains."""
    try:
        pairs = read_form(body)
    except ValueError as error:
        raise refuse("20001", f"The body is not form-urlencoded: {error}") from None
    fields = dict(pairs)
    if unknown := fields.keys() - _KNOWN:
        raise refuse("20001", f"Unknown parameters: {', '.join(sorted(unknown))}")
    if len(fields) < len(pairs):
        for name in fields:
            values = [value for one, value in pairs if one == name]
            if len(values) > 1 and name not in _REPEATABLE:
                raise refuse("20001", f"{name} is given {len(values)} times")
            fields[name] = " ".join(values)
    return fields


def _channel(address: str) -> tuple[str, str]:
    channel, colon, rest = address.partition(":")
    return (channel, rest) if colon else ("", address)


def _check_addresses(fields: Mapping[str, str]) -> None:
    to, sender = fields.get("To", ""), fields.get("From", "")
    if not to:
        raise refuse("21604")
    if not sender and not fields.get("MessagingServiceSid"):
        raise refuse("21603")
    channel, address = _channel(to)
    phone = channel in ("", "whatsapp", "rcs")
    if not (_PHONE.fullmatch(address) if phone else channel == "messenger" and address):
        raise refuse("21211", f"The 'To' number {to} is not a valid phone number.")
    if sender and (channel == "whatsapp") != sender.startswith("whatsapp:"):
        raise refuse("21910")
    if to in _MAGIC_TO:
        raise refuse(_MAGIC_TO[to])


def _check_content(fields: Mapping[str, str]) -> None:
    body = fields.get("Body", "")
    if not body and not fields.get("MediaUrl") and not fields.get("ContentSid"):
        raise refuse("21602")
    if len(body) > MAX_BODY:
        raise refuse("21617")
    if "MediaUrl" in fields and not all(map(_URL.fullmatch, fields["MediaUrl"].split())):
        raise refuse("21620")
    if "ContentVariables" in fields:
        _check_variables(fields)


def _check_variables(fields: Mapping[str, str]) -> None:
    if not fields.get("ContentSid"):
        raise refuse("21654")
    try:
        msgspec.json.decode(fields["ContentVariables"], type=dict[str, str])
    except msgspec.DecodeError:
        raise refuse("21656") from None


def _check_options(fields: Mapping[str, str]) -> None:
    validity = fields.get("ValidityPeriod", "1")
    if not (validity.isascii() and validity.isdigit() and 1 <= int(validity) <= MAX_VALIDITY):
        raise refuse("90007", f"ValidityPeriod is 1 to {MAX_VALIDITY} seconds")
    if "StatusCallback" in fields and not _URL.fullmatch(fields["StatusCallback"]):
        raise refuse("21609")
    service = fields.get("MessagingServiceSid")
    if service and not _SERVICE_SID.fullmatch(service):
        raise refuse("21701")
    if "SendAt" in fields or "ScheduleType" in fields:
        _check_schedule(fields)


def _check_schedule(fields: Mapping[str, str]) -> None:
    if not fields.get("MessagingServiceSid"):
        raise refuse("35118")
    if fields.get("ScheduleType") != "fixed":
        raise refuse("20001", "ScheduleType must be fixed when SendAt is given")
    if not _SEND_AT.fullmatch(fields.get("SendAt", "")):
        raise refuse("20001", "SendAt must be an ISO 8601 time with an offset")


def _own_id(callback: str) -> str:
    """The sender's own id for the message, from the query of its status callback."""
    query = callback.partition("?")[2]
    if not query:
        return ""
    try:
        parameters = dict(read_form(query.encode()))
    except ValueError:
        return ""
    return parameters.get("m") or parameters.get("id", "")
