"""Dashboards as code: `python -m grafana` writes `dashboards/*.json` anew."""
