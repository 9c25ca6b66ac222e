"""A limit as it stands in the store: what it asks for, and what of it is used.

Times are microseconds by the store's clock; an interval is the space between two units, 0 for no
rate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, cast, get_args

from dispatcher.limits import Limit, Period

DAY_US = 86_400_000_000
RECOVERY = 0.05
"""What a slowed limit gets back in a second, as a share of its rate."""


class QuotaView(NamedTuple):
    """A calendar quota: `used` of `most` units since the last boundary, until `ends_us`."""

    period: Period
    most: int
    used: int
    ends_us: int

    @property
    def spent(self) -> bool:
        """Whether nothing more may go before it ends."""
        return self.used >= self.most


class LimitView(NamedTuple):
    """One limit at `now_us`.

    `configured_us` is the interval of the configuration (today's of a limit that warms up),
    `set_us` the one an operator has put above it until `set_until_us` (0: until it is reset), None
    without. `factor`, at most 1, is what the provider's "slow down" has left of the rate, and
    `interval_us` the interval in force. `tat_us` is up to when its slots are given away.
    """

    name: str
    now_us: int
    configured_us: float
    set_us: float | None
    set_until_us: int
    factor: float
    interval_us: float
    burst: int
    segments: bool
    tat_us: int
    pause_us: int
    quotas: tuple[QuotaView, ...]

    @property
    def paused_us(self) -> int:
        """How long it lets nothing pass."""
        return max(0, self.pause_us - self.now_us)

    @property
    def spent(self) -> QuotaView | None:
        """The quota that is used up, of several the one that ends last."""
        used_up = [quota for quota in self.quotas if quota.spent]
        return max(used_up, key=lambda quota: quota.ends_us, default=None)

    @property
    def booked_us(self) -> int:
        """How far ahead its slots are given away."""
        return max(0, self.tat_us - self.now_us) if self.interval_us else 0

    @property
    def wake_us(self) -> int:
        """When it lets the next unit pass; in the past for one that is free."""
        ends = self.spent.ends_us if self.spent is not None else 0
        return max(self.tat_us if self.interval_us else 0, self.pause_us, ends)

    @property
    def used(self) -> float | None:
        """The share of its burst that is taken now, 0 to 1; None without a rate."""
        size = self.burst * self.interval_us
        if not size:
            return None
        window = size - self.interval_us
        return min(1.0, max(0.0, (self.tat_us - self.now_us + window) / size))


def limit_view(name: str, fields: Mapping[str, str], now_us: int) -> LimitView:
    """A limit of its fields in the store (see the table in `store.keys`)."""

    def number(field: str) -> int:
        return int(float(fields.get(field, "0")))

    configured = _ramped(fields, now_us)
    set_us, set_until = fields.get("set"), number("set_until")
    above = set_us is not None and (set_until == 0 or now_us < set_until)
    chosen = float(set_us) if set_us is not None and above else configured
    factor = _factor(fields, now_us)
    return LimitView(
        name,
        now_us,
        configured,
        chosen if above else None,
        set_until if above else 0,
        factor,
        chosen / factor,
        max(1, number("burst")),
        fields.get("segments") == "1",
        number("tat"),
        number("pause"),
        tuple(quota for period in get_args(Period) if (quota := _quota(fields, period, now_us))),
    )


def unused_view(limit: Limit, now_us: int) -> LimitView:
    """A limit of the configuration that the store does not know yet."""
    interval = limit.ramp[0] if limit.ramp else limit.interval_us
    quotas = tuple(QuotaView(q.period, q.count, 0, q.ends[0]) for q in limit.quotas)
    return LimitView(
        limit.name, now_us, interval, None, 0, 1.0, interval, limit.burst, limit.segments, 0, 0,
        quotas,
    )  # fmt: skip


def join_views(views: Sequence[LimitView]) -> LimitView:
    """What the cells together have of a limit that is split over them: rates, bursts and quotas
    are added, what is booked is counted in units, and it is paused as long as any of them."""
    first = views[0]
    if len(views) == 1:
        return first
    interval_us = _together(view.interval_us for view in views)
    booked = sum(
        max(view.tat_us - view.now_us, -view.burst * view.interval_us) / view.interval_us
        for view in views
        if view.interval_us
    )
    above = any(view.set_us is not None for view in views)
    chosen_us = _together(view.interval_us * view.factor for view in views)
    return first._replace(
        configured_us=_together(view.configured_us for view in views),
        set_us=chosen_us if above else None,
        set_until_us=max(view.set_until_us for view in views),
        factor=chosen_us / interval_us if interval_us else min(view.factor for view in views),
        interval_us=interval_us,
        burst=sum(view.burst for view in views),
        tat_us=first.now_us + int(booked * interval_us),
        pause_us=max(view.pause_us - view.now_us for view in views) + first.now_us,
        quotas=_joined_quotas(views),
    )


def join_limits(
    cells: Mapping[str, Mapping[str, LimitView]], retired: Collection[str]
) -> dict[str, LimitView]:
    """Every limit of some cells, which may be in several of them. What a retired one has of it
    counts only where no other has it: nothing is sent by it."""
    in_use = [views for cell, views in cells.items() if cell not in retired]
    former = [views for cell, views in cells.items() if cell in retired]
    names = dict.fromkeys(name for views in (*in_use, *former) for name in views)
    return {
        name: join_views(
            [views[name] for views in in_use if name in views]
            or [views[name] for views in former if name in views]
        )
        for name in names
    }


def _together(intervals: Iterable[float]) -> float:
    """The interval of several rates taken together; 0 where one of them is no rate."""
    found = list(intervals)
    return 1 / sum(1 / interval for interval in found) if all(found) else 0.0


def _joined_quotas(views: Sequence[LimitView]) -> tuple[QuotaView, ...]:
    found: dict[Period, QuotaView] = {}
    for quota in (quota for view in views for quota in view.quotas):
        known = found.get(quota.period, quota._replace(most=0, used=0))
        most, used = known.most + quota.most, known.used + quota.used
        ends_us = max(known.ends_us, quota.ends_us)
        found[quota.period] = QuotaView(quota.period, most, used, ends_us)
    return tuple(found.values())


def _ramped(fields: Mapping[str, str], now_us: int) -> float:
    """The interval of the configuration today."""
    ramp = fields.get("ramp", "").split()
    day = int((now_us - float(fields.get("born", "0"))) // DAY_US)
    return float(ramp[day] if 0 <= day < len(ramp) else fields.get("interval", "0"))


def _factor(fields: Mapping[str, str], now_us: int) -> float:
    if "factor" not in fields:
        return 1.0
    passed = max(0.0, now_us - float(fields.get("factored", "0"))) / 1e6
    return min(1.0, float(fields["factor"]) + RECOVERY * passed)


def _quota(fields: Mapping[str, str], period: str, now_us: int) -> QuotaView | None:
    """A period that has ended begins anew with the next message: nothing of it is used."""
    if f"quota:{period}" not in fields:
        return None
    ends, used = int(fields.get(f"ends:{period}", "0")), int(fields.get(f"used:{period}", "0"))
    if ends <= now_us:
        ends, used = int(fields.get(f"next:{period}", "0")), 0
    return QuotaView(cast(Period, period), int(fields[f"quota:{period}"]), used, ends)
