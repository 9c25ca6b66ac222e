"""Writes base/prometheusrule.yaml from grafana/rules: python -m k8s.prometheusrule"""

from __future__ import annotations

import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
RULES = ROOT / "grafana/rules"
MANIFEST = ROOT / "k8s/base/prometheusrule.yaml"
HEAD = """\
# Made from grafana/rules by python -m k8s.prometheusrule: edit those.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: dispatcher
  labels:
    app.kubernetes.io/name: dispatcher
spec:
  groups:
"""


def manifest() -> str:
    """The rules as a PrometheusRule. Their comments stay."""
    return HEAD + "".join(_groups(RULES / name) for name in ("recording.yaml", "alerts.yaml"))


def _groups(file: Path) -> str:
    _, _, groups = file.read_text().partition("\ngroups:\n")
    return textwrap.indent(groups, "  ")


if __name__ == "__main__":
    MANIFEST.write_text(manifest())
