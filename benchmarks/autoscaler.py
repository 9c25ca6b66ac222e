"""The decisions of a HorizontalPodAutoscaler, which KEDA makes too, for one average value.

Read from a ScaledObject or a HorizontalPodAutoscaler and carried out as Kubernetes documents it:
tolerance, stabilization windows, policies.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SYNC_SECONDS = 15
"""How often Kubernetes decides."""
TOLERANCE = 0.1
"""How far a value may be from its target before anything is done."""


class Policy(NamedTuple):
    """How much may change in `seconds`: so many pods, or a percentage of them."""

    kind: str
    value: int
    seconds: int


class Direction(NamedTuple):
    """`window` in seconds: how long a change has to be asked for."""

    window: int
    policies: tuple[Policy, ...]


class Rule(NamedTuple):
    """`target` is the value per pod."""

    target: float
    least: int
    most: int
    up: Direction
    down: Direction


def read_rule(file: Path) -> Rule:
    """The rule of a manifest. Raises ValueError for any other kind."""
    manifest = yaml.safe_load(file.read_text())
    spec: Mapping[str, Any] = manifest.get("spec", {})
    if manifest["kind"] == "ScaledObject":
        (trigger,) = spec["triggers"]
        bounds = spec["minReplicaCount"], spec["maxReplicaCount"]
        target = trigger["metadata"]["threshold"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    elif manifest["kind"] == "HorizontalPodAutoscaler":
        (metric,) = spec["metrics"]
        bounds = spec["minReplicas"], spec["maxReplicas"]
        target, behavior = metric["external"]["target"]["averageValue"], spec["behavior"]
    else:
        raise ValueError(f"{file}: kind must be ScaledObject or HorizontalPodAutoscaler")
    up, down = (_direction(behavior[name]) for name in ("scaleUp", "scaleDown"))
    return Rule(float(target), *bounds, up, down)


def _direction(found: Mapping[str, Any]) -> Direction:
    if found.get("selectPolicy", "Max") != "Max":
        raise ValueError("selectPolicy must be Max")
    policies = (
        Policy(item["type"], item["value"], item["periodSeconds"]) for item in found["policies"]
    )
    return Direction(found["stabilizationWindowSeconds"], tuple(policies))


class Autoscaler:
    """Decides how many pods there should be."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._asked: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def decide(self, now: float, value: float, current: int) -> int:
        """The number of pods from `now` (seconds) on; `value` is of all `current` pods together."""
        rule = self._rule
        self._asked.append((now, self._wanted(value, current)))
        while self._asked[0][0] < now - max(rule.up.window, rule.down.window):
            self._asked.popleft()
        least = min(self._lately(now - rule.up.window))
        most = max(self._lately(now - rule.down.window))
        decided = min(max(current, least), most)
        if decided > current:
            decided = max(current, min(decided, self._highest(now, current), rule.most))
        elif decided < current:
            decided = min(current, max(decided, self._lowest(now, current), rule.least))
        if decided != current:
            self._changes.append((now, decided - current))
        return decided

    def _wanted(self, value: float, current: int) -> int:
        rule = self._rule
        if abs(value / (rule.target * current) - 1) <= TOLERANCE:
            return current
        return min(max(math.ceil(value / rule.target), rule.least), rule.most)

    def _lately(self, since: float) -> Iterable[int]:
        return (count for at, count in self._asked if at >= since)

    def _highest(self, now: float, current: int) -> int:
        """What the policies allow at most; the most generous one counts."""
        return max(_raised(policy, current - self._changed(now, policy, 1))
                   for policy in self._rule.up.policies)  # fmt: skip

    def _lowest(self, now: float, current: int) -> int:
        return min(_lowered(policy, current - self._changed(now, policy, -1))
                   for policy in self._rule.down.policies)  # fmt: skip

    def _changed(self, now: float, policy: Policy, sign: int) -> int:
        """Pods that came (sign 1) or, below 0, went (sign -1) within the period of a policy."""
        since = now - policy.seconds
        return sum(change for at, change in self._changes if at > since and change * sign > 0)


def _raised(policy: Policy, before: int) -> int:
    if policy.kind == "Pods":
        return before + policy.value
    return math.ceil(before * (100 + policy.value) / 100)


def _lowered(policy: Policy, before: int) -> int:
    if policy.kind == "Pods":
        return before - policy.value
    return before * (100 - policy.value) // 100
