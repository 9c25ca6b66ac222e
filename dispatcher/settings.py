"""What `dispatcher.toml` can say: one frozen struct per table, with its defaults.

Names and defaults are public (see docs). `dispatcher.config` fills these structs from a file,
the environment and flags; a struct checks by itself whatever concerns only its own keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct, field

from dispatcher.address import parse_address
from dispatcher.toml import Secret, masked, toml_value
from dispatcher.units import Duration, Rates, format_duration

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z"
NAME = 'a name of letters, digits, ".", "_" and "-" that starts with a letter or digit'

Name = Annotated[str, Meta(pattern=NAME_PATTERN, description=NAME)]
"""Part of a Redis key, so the separators `:` and `/` and the braces of a hash tag are out."""
Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Prefix = Annotated[
    str, Meta(pattern=r"^\+[1-9][0-9]{0,14}\Z", description='"+" and 1 to 15 digits')
]
Channel = Literal["sms", "mms", "rcs", "whatsapp", "messenger", "email", "push", "voice"]
Class = Literal["urgent", "normal", "bulk"]
OnUnknown = Literal["resend", "hold"]

MAIN_CELL = "main"
"""The cell of providers that name none, and of what is kept once for all cells."""
Shares = Annotated[
    Mapping[Name, Annotated[float, Meta(gt=0, le=1)]],
    Meta(description="a table of cells, each with a number above 0 and at most 1"),
]
"""What each cell may use of a limit that spans several."""
ONE_CELL = ("provider", "recipient")
"""Limits with one of these for `each` are never split over cells."""
SEGMENTED = ("sms", "mms")
"""Channels whose texts are sent in segments."""
LOOPBACK = ("localhost", "::1")
NAMED_TABLES = ("tenants", "operators", "providers", "senders", "carriers")


def _at_least(minimum: float, **durations: float) -> None:
    for key, seconds in durations.items():
        if seconds < minimum:
            least, got = format_duration(minimum), format_duration(seconds)
            raise ValueError(f'{key} must be at least "{least}", got "{got}"')


def _check_rate(rate: Rates, ramp: Rates, timezone: str) -> None:
    if ramp.quotas:
        raise ValueError(f'ramp must hold rates per s, min or h, got "{ramp.quotas[0].text}"')
    if ramp and not rate:
        raise ValueError("ramp needs a rate per s, min or h, which holds after it")
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        example = 'a name of the IANA time zone database such as "Europe/Berlin"'
        raise ValueError(f"timezone must be {example}, got {toml_value(timezone)}") from None


class StoreConfig(Struct, frozen=True, kw_only=True):
    """`[store]`: which Redis. `max_queued` is in messages; `sentinel_username` and
    `sentinel_password` are for the sentinels themselves. `appendfsync` is of the embedded store,
    None is "everysec"; `confirm` is how safe messages must be before they count as accepted.
    `places` are the cells of the providers, which their own tables say."""

    derived: ClassVar = frozenset({"places"})

    url: str = "embedded"
    data_dir: Text = ".dispatcher"
    prefix: Name = "d"
    max_queued: Count = 20_000_000
    appendfsync: Literal["everysec", "always"] | None = None
    confirm: Literal["memory", "disk", "replica"] = "memory"
    tls_ca: Text | None = None
    tls_cert: Text | None = None
    tls_key: Text | None = None
    username: Secret | None = None
    password: Secret | None = None
    sentinel_username: Secret | None = None
    sentinel_password: Secret | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.url != "embedded":
            parse_address(self.url)
        self._check_durability()

    @property
    def address(self) -> str:
        """Where it is, for people to read: without a password."""
        return f"embedded in {self.data_dir}" if self.url == "embedded" else masked(self.url)

    def _check_durability(self) -> None:
        """A server of its own has its own settings, and the embedded one has no replicas."""
        if self.appendfsync is not None and self.url != "embedded":
            raise ValueError(
                'appendfsync is for url = "embedded" only: any other server has its own setting'
            )
        if self.confirm == "replica" and self.url == "embedded":
            raise ValueError('confirm must be "memory" or "disk" with url = "embedded"')


class WorkerConfig(Struct, frozen=True, kw_only=True):
    """`[worker]`: `port` counts up per process, 0 turns metrics and health off."""

    processes: Count = 1
    lease: Duration = Duration(15)
    port: Port = 9100

    def __post_init__(self) -> None:
        _at_least(1, lease=self.lease)


class LogConfig(Struct, frozen=True, kw_only=True):
    """`[log]`: `auto` is plain on a terminal and JSON lines elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "plain", "json"] = "auto"


class ApiConfig(Struct, frozen=True, kw_only=True):
    """`[api]`: where the HTTP API listens."""

    host: Text = "127.0.0.1"
    port: Port = 8080

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK or self.host.startswith("127.")


class TenantConfig(Struct, frozen=True, kw_only=True):
    """`[tenants.NAME]`: several tokens are for rotation. No `classes` means every class. `rate` is
    over all providers, `shares` what each cell has of it; `max_queued` in messages without an
    outcome.
    """

    token: tuple[Secret, ...] = ()
    weight: Count = 1
    classes: tuple[Class, ...] = ()
    rate: Rates = Rates()
    burst: Count = 1
    ramp: Rates = Rates()
    timezone: Text = "UTC"
    shares: Shares | None = None
    max_queued: Count | None = None

    def __post_init__(self) -> None:
        _check_rate(self.rate, self.ramp, self.timezone)


class OperatorConfig(Struct, frozen=True, kw_only=True):
    """`[operators.NAME]`: who may suspend lanes, change limits and replay dead letters."""

    token: tuple[Secret, ...] = ()


class ProviderConfig(Struct, frozen=True, kw_only=True):
    """`[providers.NAME]`: the keys every kind has; all others are in `settings`, for the kind.

    `concurrency` is in requests in flight per worker process, `burst` in messages. `ramp` are the
    rates of its first, second … 24 hours, after which `rate` holds; `timezone` is where the days
    and months of its quotas end. `on_unknown` None leaves the choice to the class of the message.
    """

    kind: Text
    rate: Rates = Rates()
    burst: Count = 1
    ramp: Rates = Rates()
    timezone: Text = "UTC"
    concurrency: Count = 256
    timeout: Duration = Duration(30)
    on_unknown: OnUnknown | None = None
    cell: Name = MAIN_CELL
    http: Literal["lean", "aiohttp"] = "lean"
    base_url: Text | None = None
    batch_wait: Duration = Duration(0.1)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_rate(self.rate, self.ramp, self.timezone)
        _at_least(0.001, timeout=self.timeout)


SenderConfig: TypeAlias = Mapping[str, tuple[str, ...]]
"""`[senders.NAME]`: provider name → the literals the recipient may see there."""


class CarrierConfig(Struct, frozen=True, kw_only=True):
    """`[carriers.NAME]`: number prefixes that belong to it, and its rate over all providers;
    `shares` is what each cell has of it."""

    prefixes: tuple[Prefix, ...] = ()
    rate: Rates = Rates()
    burst: Count = 1
    ramp: Rates = Rates()
    timezone: Text = "UTC"
    shares: Shares | None = None

    def __post_init__(self) -> None:
        _check_rate(self.rate, self.ramp, self.timezone)


class LimitConfig(Struct, frozen=True, kw_only=True):
    """`[[limits]]`: holds for what matches all given selectors; `each` makes one per value.

    `burst` is in `unit`s; `shares` is what each cell has of it.
    """

    name: Name
    rate: Rates
    burst: Count = 1
    ramp: Rates = Rates()
    timezone: Text = "UTC"
    shares: Shares | None = None
    unit: Literal["message", "segment", "request"] = "message"
    provider: Text | None = None
    carrier: Text | None = None
    tenant: Text | None = None
    channel: Channel | None = None
    each: Literal["sender", "tenant", "carrier", "provider", "channel", "recipient"] | None = None

    def __post_init__(self) -> None:
        _check_rate(self.rate, self.ramp, self.timezone)
        if self.unit == "request" and self.provider is None:
            raise ValueError('unit "request" needs provider: its batch decides what a request is')
        if self.unit == "segment" and self.channel not in (None, *SEGMENTED):
            raise ValueError(f'unit "segment" is for sms and mms, got channel "{self.channel}"')
        if self.shares is not None and self.each in ONE_CELL:
            raise ValueError(f'shares is not for each "{self.each}": each is kept in one cell')
        if self.each == "recipient":
            self._check_recipient()

    def _check_recipient(self) -> None:
        """Only the last message of each recipient is remembered."""
        if self.unit != "message":
            raise ValueError(f'unit must be "message" with each "recipient", got "{self.unit}"')
        if self.ramp:
            raise ValueError('ramp is not for each "recipient"')
        if self.rate.quotas:
            text = self.rate.quotas[0].text
            raise ValueError(f'rate must be per s, min or h with each "recipient", got "{text}"')


class RouteProvider(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One choice of a route. `weight` None: its place in the list is its place in failover."""

    expects: ClassVar[str] = 'the name of a provider or {name = "…", weight = 1}'

    name: Text
    weight: Count | None = None


class RouteConfig(Struct, frozen=True, kw_only=True):
    """`[[routes]]`: which providers take a message; the first that matches wins.

    `channel` None is every channel; `to` may contain `*`.
    """

    channel: Channel | None = None
    to: Text = "*"
    providers: tuple[RouteProvider, ...]
    on_unknown: OnUnknown | None = None

    def __post_init__(self) -> None:
        if not self.providers:
            raise ValueError("providers must name at least one provider")
        if len({choice.weight is None for choice in self.providers}) > 1:
            raise ValueError("providers must have a weight each, or none of them")


class RetryConfig(Struct, frozen=True, kw_only=True):
    """`[retry]`: full jitter up to `base`, doubled each time, up to `max`, until `max_age`."""

    max_attempts: Count = 5
    base: Duration = Duration(2)
    max: Duration = Duration(600)
    max_age: Duration = Duration(86_400)

    def __post_init__(self) -> None:
        _at_least(0.001, base=self.base, max_age=self.max_age)
        _at_least(self.base, max=self.max)


class RetentionConfig(Struct, frozen=True, kw_only=True):
    """`[retention]`: how long statuses and dead letters are kept."""

    status: Duration = Duration(72 * 3600)
    dead: Duration = Duration(14 * 86_400)

    def __post_init__(self) -> None:
        _at_least(1, status=self.status, dead=self.dead)


class SafetyConfig(Struct, frozen=True, kw_only=True):
    """`[safety]`: if `allow` is not empty, only recipients that match one of it are sent to."""

    allow: tuple[Text, ...] = ()


class Config(Struct, frozen=True, kw_only=True):
    """The whole effective configuration."""

    store: StoreConfig = StoreConfig()
    worker: WorkerConfig = WorkerConfig()
    log: LogConfig = LogConfig()
    api: ApiConfig = ApiConfig()
    tenants: Mapping[str, TenantConfig] = field(default_factory=dict)
    operators: Mapping[str, OperatorConfig] = field(default_factory=dict)
    providers: Mapping[str, ProviderConfig] = field(default_factory=dict)
    senders: Mapping[str, SenderConfig] = field(default_factory=dict)
    carriers: Mapping[str, CarrierConfig] = field(default_factory=dict)
    limits: tuple[LimitConfig, ...] = ()
    routes: tuple[RouteConfig, ...] = ()
    retry: RetryConfig = RetryConfig()
    retention: RetentionConfig = RetentionConfig()
    safety: SafetyConfig = SafetyConfig()

    def cells(self, provider: str | None = None) -> tuple[str, ...]:
        """The cells of all providers, in the order of the file, or that of one."""
        if provider is not None:
            known = self.providers.get(provider)
            return (known.cell if known is not None else MAIN_CELL,)
        return tuple(dict.fromkeys(item.cell for item in self.providers.values())) or (MAIN_CELL,)
