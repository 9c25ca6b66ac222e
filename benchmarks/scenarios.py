"""What the throughput benchmark can send: where to, through which provider, on how many lanes."""

from __future__ import annotations

from typing import NamedTuple

from dispatcher.messages import Content

TEXT = "Hi {name}, your code is {code}. Stop END"
COLUMNS = ("name", "code")
LANES = 200

TWILIO = """
[providers.sink]
kind = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = "token"
base_url = "{origin}"
concurrency = {concurrency}
http = "{http}"
"""
WEBHOOK = """
[providers.sink]
kind = "webhook"
url = "{origin}/messages"
batch = 500
concurrency = {concurrency}
"""
SENDGRID = """
[providers.sink]
kind = "sendgrid"
api_key = "key"
base_url = "{origin}"
batch = 1000
concurrency = {concurrency}
"""


class Scenario(NamedTuple):
    """`share` is how many of the messages of a run it gets, so that all take some seconds;
    `concurrency` is in requests, `delay` in ms, `lanes` are carriers of one number prefix each,
    `mark` stands once in every message of a request that carries many."""

    what: str
    share: float = 1.0
    provider: str = TWILIO
    channel: str = "sms"
    subject: str | None = None
    sender: str = "+15005550006"
    http: str = "lean"
    concurrency: int = 256
    tls: bool = False
    status: int = 201
    delay: tuple[int, int] | None = None
    mark: str = ""
    lanes: int = 1
    tenants: int = 1

    @property
    def content(self) -> Content:
        """What every message says."""
        return Content(text=TEXT, subject=self.subject)

    @property
    def sink(self) -> list[str]:
        """Options of the sink."""
        delay = ["--delay", *map(str, self.delay)] if self.delay else []
        return ["--status", str(self.status), "--count", self.mark, *delay]

    def tenant(self, number: int) -> str:
        """The name of a tenant."""
        return "default" if self.tenants == 1 else f"tenant{number}"

    def recipient(self, index: int) -> str:
        """A recipient; consecutive ones are on different lanes."""
        if self.channel == "email":
            return f"person{index:07d}@example.com"
        return f"+49151{index % self.lanes:03d}{index % 10_000_000:07d}"

    def tables(self, origin: str) -> str:
        """The configuration, as far as it concerns this scenario."""
        tables = [self.provider.format(origin=origin, concurrency=self.concurrency, http=self.http)]
        if self.lanes > 1:
            tables += (
                f'[carriers.network{lane:03d}]\nprefixes = ["+49151{lane:03d}"]'
                for lane in range(self.lanes)
            )
        if self.tenants > 1:
            names = [self.tenant(number) for number in range(self.tenants)]
            tables += (f'[tenants.{name}]\ntoken = "token-of-{name}"' for name in names)
        return "\n".join(tables)


SCENARIOS = {
    "single": Scenario("one message per HTTP request, 256 in flight"),
    "tls": Scenario("the same over TLS, the certificate verified", share=0.5, tls=True),
    "slow": Scenario(
        "a sink that answers after 150 ± 50 ms, 4,000 in flight",
        share=1.0, concurrency=4000, delay=(100, 200),
    ),
    "lanes": Scenario("200 lanes × 5 tenants, mixed in every part", lanes=LANES, tenants=5),
    "webhook": Scenario(
        "500 messages per request, kind webhook",
        share=4.0, provider=WEBHOOK, concurrency=16, mark='"to":',
    ),
    "sendgrid": Scenario(
        "up to 1,000 messages per request, kind sendgrid",
        share=4.0, provider=SENDGRID, concurrency=16, mark='"to":', status=202,
        channel="email", subject="Hello", sender="shop@example.com",
    ),
    "aiohttp": Scenario('one message per request, http = "aiohttp"', share=0.1, http="aiohttp"),
}  # fmt: skip
